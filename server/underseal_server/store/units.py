"""Rows of units and their templates: what is stored, where, and since which version.

Every change of what searches see is one transaction that also raises the gallery's version by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import sqlalchemy as sa

from underseal_core.amendment import Amendment
from underseal_core.errors import Conflict, Damaged
from underseal_core.gallery.unit import Placement, Shape, Unit, before
from underseal_core.log_entries import decode_entry
from underseal_server.store.database import Database
from underseal_server.store.digests import note_changes
from underseal_server.store.records import Gallery, NewUnit, Receipt, StoredUnit
from underseal_server.store.schema import amendments, galleries, templates, units


class Units:
    """The tables of units and templates, as changes see them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def by_token(self, gallery: Gallery, token: bytes) -> StoredUnit | None:
        """Return the unit stored under ``token``, live or removed."""
        found = self._units(units.c.gallery_id == gallery.id, units.c.token == token)
        return found[0] if found else None

    def receipt(self, gallery: Gallery, unit: NewUnit) -> Receipt | None:
        """Return the receipt of a unit that was stored before, ``None`` for a new one.

        Raises
        ------
        Conflict
            The token was used for other content.
        """
        stored = self.by_token(gallery, unit.token)
        if stored is None:
            return None
        if stored.content_sha256 != unit.content_sha256():
            raise Conflict(
                "the unit's token was used for other content", hint="choose a new random token"
            )
        return Receipt.of(stored, repeated=True)

    def live(self, gallery: Gallery, block: int | None = None) -> Sequence[StoredUnit]:
        """Return the units that searches see, of one block or all, in the order of storing."""
        where = [*_in_gallery(gallery), units.c.added_version > 0]
        if block is not None:
            where.append(units.c.block == block)
        return self._units(*where)

    def pending(self, gallery: Gallery) -> Sequence[StoredUnit]:
        """Return the units that are PENDING, in the order of storing."""
        return self._units(*_in_gallery(gallery), units.c.added_version == 0)

    def pending_templates(self, gallery: Gallery) -> int:
        """Return how many templates are PENDING."""
        query = sa.select(sa.func.coalesce(sa.func.sum(units.c.templates), 0))
        where = (*_in_gallery(gallery), units.c.added_version == 0)
        with self._database.reading() as connection:
            return int(connection.scalar(query.where(*where)) or 0)

    def blocks(self, gallery: Gallery) -> Sequence[int]:
        """Return the blocks that hold units that searches see, ascending."""
        where = (*_in_gallery(gallery), units.c.added_version > 0)
        query = sa.select(units.c.block).where(*where).distinct().order_by(units.c.block)
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def by_ids(self, numbers: Sequence[int]) -> Sequence[StoredUnit]:
        """Return units by number, live or removed."""
        return self._units(units.c.id.in_(numbers))

    def by_names(self, gallery: Gallery, names: Collection[bytes]) -> Sequence[StoredUnit]:
        """Return units by name, live or removed, as they are or as they were before."""
        known = frozenset(names)
        named = sa.or_(
            units.c.token.in_(known),
            amendments.c.name.in_(known),
            amendments.c.former_name.in_(known),
        )
        found = []
        for unit in self._units(units.c.gallery_id == gallery.id, named):
            found += [unit] if unit.name in known else []
            if unit.former is not None and unit.former.name in known:
                before = unit.former
                found.append(replace(unit, sha256=before.sha256, redaction=before.redaction))
        return found

    def bytes_stored(self, gallery: Gallery) -> int:
        """Return the bytes of the files of units that are not removed."""
        query = sa.select(sa.func.coalesce(sa.func.sum(units.c.bytes), 0))
        with self._database.reading() as connection:
            return int(connection.scalar(query.where(*_in_gallery(gallery))) or 0)

    def remove(
        self, gallery: Gallery, unit: StoredUnit, template_ids: Sequence[bytes], moment: str
    ) -> int:
        """Mark templates of one unit removed, at ``moment``, and forget their labels.

        A unit that is PENDING must become ACTIVE before.

        Returns
        -------
        int
            How many were live; 0 changes nothing, not even the version.
        """
        with self._database.writing() as connection:
            alive = (templates.c.unit_id == unit.id, templates.c.removed_version == 0)
            chosen = templates.c.template_id.in_(template_ids)
            count = sa.select(sa.func.count()).select_from(templates)
            affected = int(connection.scalar(count.where(*alive, chosen)) or 0)
            if not affected:
                return 0
            version = raise_version(connection, gallery, [unit.placement.block])
            gone = {"removed_version": version, "removed_at": moment, "sealed_label": b""}
            connection.execute(templates.update().where(*alive, chosen).values(gone))
            if not connection.scalar(count.where(*alive)):
                dead = units.update().where(units.c.id == unit.id)
                connection.execute(dead.values(removed_version=version))
        self._database.forgotten()
        return affected

    def _units(self, *where: sa.ColumnElement[bool]) -> list[StoredUnit]:
        with self._database.reading() as connection:
            joined = units.outerjoin(amendments, amendments.c.unit_id == units.c.id)
            query = sa.select(units, amendments.c.entry).select_from(joined).where(*where)
            rows = connection.execute(query.order_by(units.c.id)).all()
        try:
            return [_unit(row) for row in rows]
        except ValueError as error:
            raise Damaged("the catalogue is damaged: a unit's row means nothing") from error


def raise_version(
    connection: sa.Connection, gallery: Gallery, changed: Iterable[int] | None
) -> int:
    """Raise a gallery's version by one and return it.

    Parameters
    ----------
    changed
        The blocks in which anything changes that a snapshot says of a live template; ``None``:
        all of them.
    """
    this = galleries.c.id == gallery.id
    connection.execute(galleries.update().where(this).values(version=galleries.c.version + 1))
    version = int(connection.scalar(sa.select(galleries.c.version).where(this)) or 0)
    note_changes(connection, gallery, changed, version)
    return version


def _in_gallery(gallery: Gallery) -> tuple[sa.ColumnElement[bool], ...]:
    return (units.c.gallery_id == gallery.id, units.c.removed_version == 0)


def _unit(row: sa.Row[tuple[object, ...]]) -> StoredUnit:
    placement = Placement(row.block, row.first_slot, row.step, row.templates)
    if row.step < 1 or row.templates < 1:
        raise ValueError("no such placement")
    plain = Unit(token=row.token, shape=Shape(row.shape), placement=placement, sha256=row.sha256)
    redaction, former = None, None
    if row.entry is not None:
        amendment = Amendment.parse(decode_entry(row.entry).payload)
        redaction = amendment.redaction()
        former = replace(
            plain,
            sha256=bytes.fromhex(amendment.old_sha256),
            redaction=before(redaction),
        )
    return StoredUnit(
        id=row.id,
        token=row.token,
        shape=plain.shape,
        placement=placement,
        size=row.bytes,
        sha256=row.sha256,
        redaction=redaction,
        content_sha256=row.content_sha256,
        added_version=row.added_version,
        removed_version=row.removed_version,
        former=former,
    )
