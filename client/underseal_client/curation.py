"""What a client does with templates that are enrolled: list, count, relabel, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from underseal_client import erasures
from underseal_client import gallery as galleries
from underseal_client.records import ALL
from underseal_client.relabelling import relabel
from underseal_client.units import LabelText
from underseal_core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from underseal_client.context import ClientContext
    from underseal_client.erasures import Erasure
    from underseal_client.records import Statistics, StoredTemplate, TemplateFilter, TemplatePage

REMOVED_AT_ONCE: Final = 256
"""Templates in one call, or all of one unit: removing a row takes as long as enrolling it."""


class Curation:
    """The part of :class:`underseal_client.Client` that is about templates that are there."""

    _context: ClientContext

    def statistics(self, gallery: str) -> Statistics:
        """Count a gallery's templates: by state, their subjects, oldest, newest, next to expire."""
        return galleries.statistics(self._context.connection, gallery)

    def templates(
        self, gallery: str, *, subject: str = "", where: TemplateFilter = ALL
    ) -> Iterator[StoredTemplate]:
        """Yield the templates of a gallery, or those of one subject."""
        subject_id = self.subject_id(gallery, subject) if subject else b""
        return galleries.templates(self._context.connection, gallery, subject_id, where)

    def template_page(
        self,
        gallery: str,
        *,
        subject: str = "",
        where: TemplateFilter = ALL,
        after: str = "",
        limit: int = 100,
    ) -> TemplatePage:
        """Return up to ``limit`` templates, at most 1,000, and how many there are in all.

        Parameters
        ----------
        after
            Where the page before ended; empty for the first one.
        """
        subject_id = self.subject_id(gallery, subject) if subject else b""
        connection = self._context.connection
        return galleries.page(
            connection, gallery, where, subject_id, after=after, limit=limit, count=True
        )

    def subject_id(self, gallery: str, subject: str) -> bytes:
        """Return the opaque 16-byte id under which the server knows a subject in a gallery."""
        return self._context.subject_key.subject_id(gallery, subject)

    def remove_templates(self, gallery: str, template_ids: Sequence[bytes]) -> int:
        """Remove templates by their 16-byte ids, all or none; return how many."""
        removed = galleries.remove(self._context.connection, gallery, template_ids)
        self._context.state.forget(template_ids)
        return removed

    def remove_subject(self, gallery: str, subject: str) -> int:
        """Remove all templates of a subject; return how many.

        Raises
        ------
        NotFound
            There is none.
        """
        return self.remove_templates(gallery, self._ids_of(gallery, subject))

    def remove_where(self, gallery: str, where: TemplateFilter, *, subject: str = "") -> int:
        """Remove the templates that a filter means, some at a time; return how many.

        Raises
        ------
        InvalidInput
            The filter is empty: delete the gallery, or name the templates.
        """
        if not where:
            raise InvalidInput("say which templates are to be removed")
        found = list(self.templates(gallery, subject=subject, where=where))
        found.sort(key=lambda entry: entry.unit_token)  # a unit that leaves as a whole costs least
        removed, batch, unit = 0, list[bytes](), b""
        for entry in found:
            if len(batch) >= REMOVED_AT_ONCE and entry.unit_token != unit:
                removed += self.remove_templates(gallery, batch)
                batch = []
            batch.append(entry.template_id)
            unit = entry.unit_token
        return removed + (self.remove_templates(gallery, batch) if batch else 0)

    def erasures(
        self, gallery: str, *, subject: str = "", template_ids: Sequence[bytes] = ()
    ) -> Iterator[Erasure]:
        """Yield removed templates, with the server's verified receipt for each that is erased.

        Parameters
        ----------
        subject, template_ids
            At most one of the two; neither: all that were removed from the gallery.

        Raises
        ------
        NotFound
            One of the templates is not removed, or the bundle of an amendment's keys is not here.
        PermissionRefused, Damaged
            A receipt, or the auditors' amendment that it names, does not stand up.
        """
        if subject and template_ids:
            raise InvalidInput("name either a subject or templates")
        subject_id = self.subject_id(gallery, subject) if subject else b""
        return erasures.erasures(self._context, gallery, template_ids, subject_id)

    def _ids_of(self, gallery: str, subject: str) -> list[bytes]:
        ids = [entry.template_id for entry in self.templates(gallery, subject=subject)]
        if not ids:
            raise NotFound(
                "the gallery has no template of this subject",
                hint="write the name as it was enrolled; the subject key must be the same, too",
            )
        return ids

    def relabel(
        self,
        gallery: str,
        *,
        name: str,
        photo: str = "",
        case: str = "",
        subject: str = "",
        template_ids: Sequence[bytes] = (),
    ) -> int:
        """Give templates that were enrolled from here another label; return how many.

        The subject's id stays what it was: go on naming it as it was enrolled.

        Parameters
        ----------
        name, photo, case
            The whole new label; nobody but the auditors can read the old one.
        subject, template_ids
            Exactly one of the two: all templates of a subject, or these.

        Raises
        ------
        NotFound
            There is no such template.
        PermissionRefused
            Another client enrolled one of them; nothing was changed.
        Damaged
            The server shows something else than was enrolled from here.
        """
        if bool(subject) == bool(template_ids):
            raise InvalidInput("name either a subject or templates")
        text = LabelText(name, photo, case)
        if subject:
            ids, whose = self._ids_of(gallery, subject), self.subject_id(gallery, subject)
            relabel(self._context, gallery, ids, text, whose)
        else:
            ids = list(dict.fromkeys(template_ids))
            relabel(self._context, gallery, ids, text)
        return len(ids)
