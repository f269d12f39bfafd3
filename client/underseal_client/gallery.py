"""Galleries and the templates in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from underseal_client import wire
from underseal_core.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from underseal_client.connection import Connection
    from underseal_client.records import Gallery, StoredTemplate
    from underseal_core.statements import Pin

_MAX_PAGES: Final = 1_000_000


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


def templates(
    connection: Connection, gallery: str, subject_id: bytes = b""
) -> Iterator[StoredTemplate]:
    """Yield the live templates of a gallery, or of one subject in it.

    Raises
    ------
    NotFound
        There is no such gallery.
    """
    token = ""
    for _ in range(_MAX_PAGES):
        request = wire.list_templates_to_wire(gallery, subject_id, token)
        page = connection.ask(connection.galleries.ListTemplates, request, repeat=True)
        yield from (wire.template_from_wire(entry) for entry in page.templates)
        token = page.next_page_token
        if not token:
            return
    raise Damaged("the server's list of templates does not end")


def remove(
    connection: Connection,
    gallery: str,
    template_ids: Sequence[bytes] = (),
    subject_id: bytes = b"",
) -> int:
    """Remove templates by id, or all of one subject; return how many.

    Raises
    ------
    NotFound
        No such gallery, template or subject; nothing was removed.
    """
    request = wire.remove_to_wire(gallery, template_ids, subject_id)
    answer = connection.ask(connection.galleries.RemoveTemplates, request)
    return answer.removed
