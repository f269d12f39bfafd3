"""Rows of removed templates: when each was removed, and what has become of its ciphertexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from underseal_core.errors import NotFound
from underseal_core.log_entries import decode_entry
from underseal_core.signing import Envelope
from underseal_server.store.database import Database
from underseal_server.store.records import Gallery
from underseal_server.store.schema import amendments, reencrypted, templates, units


@dataclass(frozen=True, slots=True)
class Removed:
    """A removed template.

    ``number``: of its row, to go on after it. ``moment`` is empty when it is not known.
    ``copied``: its unit was re-encrypted for keys that the gallery is on its way to.
    ``amendment``: the last one of its unit, with the first version that has it.
    """

    number: int
    template_id: bytes
    subject_id: bytes
    unit: int
    place: int
    version: int
    moment: str
    copied: bool
    amendment: tuple[Envelope, int] | None


class Erasures:
    """The tables of templates, units and amendments, as receipts of erasure see them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, gallery: Gallery, subject: bytes, after: int, limit: int) -> Sequence[Removed]:
        """Return up to ``limit`` removed templates, of one subject or all, in order of rows.

        Parameters
        ----------
        subject
            Empty for all.
        after
            Number of the last one of the page before; 0 at first.
        """
        wanted = [templates.c.id > after]
        if subject:
            wanted.append(templates.c.subject_id == subject)
        return self._select(gallery, *wanted, limit=limit)

    def of_ids(self, gallery: Gallery, template_ids: Sequence[bytes]) -> Sequence[Removed]:
        """Return removed templates, in order of rows.

        Raises
        ------
        NotFound
            One of them is not removed, or was never there.
        """
        wanted = frozenset(template_ids)
        found = self._select(gallery, templates.c.template_id.in_(wanted), limit=len(wanted))
        if len(found) != len(wanted):
            raise NotFound(
                "one of these templates was never in the gallery, or is not removed",
                hint="remove it first: underseal gallery remove",
            )
        return found

    def _select(
        self, gallery: Gallery, *where: sa.ColumnElement[bool], limit: int
    ) -> list[Removed]:
        joined = templates.join(units, templates.c.unit_id == units.c.id)
        joined = joined.outerjoin(amendments, amendments.c.unit_id == units.c.id)
        joined = joined.outerjoin(reencrypted, reencrypted.c.unit_id == units.c.id)
        query = sa.select(
            templates,
            units.c.first_slot,
            units.c.step,
            amendments.c.entry,
            amendments.c.version,
            reencrypted.c.unit_id.label("copied"),
        ).select_from(joined)
        removed = (templates.c.gallery_id == gallery.id, templates.c.removed_version > 0)
        query = query.where(*removed, *where).order_by(templates.c.id).limit(limit)
        with self._database.reading() as connection:
            return [_removed(row) for row in connection.execute(query)]


def _removed(row: sa.Row[tuple[object, ...]]) -> Removed:
    return Removed(
        row.id,
        row.template_id,
        row.subject_id,
        row.unit_id,
        (row.slot - row.first_slot) // row.step,
        row.removed_version,
        row.removed_at,
        row.copied is not None,
        None if row.entry is None else (decode_entry(row.entry), row.version),
    )
