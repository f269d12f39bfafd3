"""Galleries and the templates in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from underseal_client.connection import SERVER, translated
from underseal_client.records import ALL
from underseal_client.wire import galleries as wire
from underseal_core.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from underseal_client.connection import Connection
    from underseal_client.records import (
        Gallery,
        Statistics,
        StoredTemplate,
        TemplateFilter,
        TemplatePage,
    )
    from underseal_core.statements import Pin

_MAX_PAGES: Final = 1_000_000
PAGE: Final = 1000
"""Templates of a page, the most that servers send."""


def create(
    connection: Connection,
    name: str,
    pin: Pin,
    writers: Sequence[str] = (),
    max_templates_per_subject: int = 0,
    max_keep_days: int = 0,
) -> Gallery:
    """Make a gallery pinned to ``pin``; making the same one again changes nothing.

    Parameters
    ----------
    writers
        Clients besides the caller that may enrol and remove.
    max_templates_per_subject
        0 takes the server's default.
    max_keep_days
        Longest time that templates may be kept; 0 for no limit.

    Raises
    ------
    Conflict
        The name is taken by another one.
    InvalidInput, Mismatch
        The name or the pin is not acceptable.
    """
    limits = max_templates_per_subject, max_keep_days
    request = wire.create_gallery_to_wire(name, pin, writers, *limits)
    answer = connection.ask(connection.galleries.CreateGallery, request, repeat=True)
    return wire.gallery_from_wire(answer.gallery)


def describe(connection: Connection, name: str) -> Gallery:
    """Return a gallery's description.

    Raises
    ------
    NotFound
        There is no such gallery.
    """
    request = wire.get_gallery_to_wire(name)
    answer = connection.ask(connection.galleries.GetGallery, request, repeat=True)
    return wire.gallery_from_wire(answer.gallery)


def list_all(connection: Connection) -> Iterator[Gallery]:
    """Yield every gallery that the caller may see."""
    token = ""
    for _ in range(_MAX_PAGES):
        request = wire.list_galleries_to_wire(token)
        page = connection.ask(connection.galleries.ListGalleries, request, repeat=True)
        yield from (wire.gallery_from_wire(entry) for entry in page.galleries)
        token = page.next_page_token
        if not token:
            return
    raise Damaged("the server's list of galleries does not end")


def delete(connection: Connection, name: str) -> None:
    """Delete a gallery with everything in it.

    Raises
    ------
    NotFound, PermissionRefused
        There is no such gallery, or the caller may not write to it.
    """
    connection.ask(connection.galleries.DeleteGallery, wire.delete_gallery_to_wire(name))


def statistics(connection: Connection, name: str) -> Statistics:
    """Count a gallery's templates.

    Raises
    ------
    NotFound
        There is no such gallery.
    """
    request = wire.get_gallery_to_wire(name, statistics=True)
    answer = connection.ask(connection.galleries.GetGallery, request, repeat=True)
    return wire.statistics_from_wire(answer.gallery)


def page(
    connection: Connection,
    gallery: str,
    where: TemplateFilter = ALL,
    subject_id: bytes = b"",
    *,
    after: str = "",
    limit: int = 0,
    count: bool = False,
) -> TemplatePage:
    """Return a page of templates; see :meth:`underseal_client.Client.template_page`."""
    asked = (gallery, subject_id, after, where, limit)
    request = wire.list_templates_to_wire(*asked, count=count)
    answer = connection.ask(connection.galleries.ListTemplates, request, repeat=True)
    return wire.page_from_wire(answer)


def templates(
    connection: Connection,
    gallery: str,
    subject_id: bytes = b"",
    where: TemplateFilter = ALL,
) -> Iterator[StoredTemplate]:
    """Yield the templates of a gallery, or of one subject in it.

    Raises
    ------
    NotFound
        There is no such gallery.
    """
    after = ""
    for _ in range(_MAX_PAGES):
        found = page(connection, gallery, where, subject_id, after=after, limit=PAGE)
        yield from found.templates
        after = found.after
        if not after:
            return
    raise Damaged("the server's list of templates does not end")


def remove(connection: Connection, gallery: str, template_ids: Sequence[bytes]) -> int:
    """Remove templates by id; return how many.

    Raises
    ------
    NotFound
        No such gallery or template; nothing was removed.
    """
    request = wire.remove_to_wire(gallery, template_ids)
    with translated(SERVER):
        timeout = connection.stream_timeout_s
        return connection.galleries.RemoveTemplates(request, timeout=timeout).removed
