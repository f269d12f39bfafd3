"""Rows of units and their templates: what is stored, where, and since which version.

Every change of a gallery is one transaction that also raises its version by one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from underseal_core.errors import Conflict, InvalidInput
from underseal_core.gallery.unit import Placement, Shape
from underseal_server.store.database import Database
from underseal_server.store.digests import note_changes
from underseal_server.store.records import Gallery, NewUnit, Receipt, StoredUnit
from underseal_server.store.schema import galleries, templates, units


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
        return Receipt(stored.token, stored.placement, stored.added_version, repeated=True)

    def live(self, gallery: Gallery, block: int | None = None) -> Sequence[StoredUnit]:
        """Return the units with a live template, of one block or all, in the order of storing."""
        where = [units.c.gallery_id == gallery.id, units.c.removed_version == 0]
        if block is not None:
            where.append(units.c.block == block)
        return self._units(*where)

    def by_ids(self, numbers: Sequence[int]) -> Sequence[StoredUnit]:
        """Return units by number, live or removed."""
        return self._units(units.c.id.in_(numbers))

    def by_tokens(self, gallery: Gallery, tokens: Sequence[bytes]) -> Sequence[StoredUnit]:
        """Return units by token, live or removed."""
        return self._units(units.c.gallery_id == gallery.id, units.c.token.in_(tokens))

    def bytes_stored(self, gallery: Gallery) -> int:
        """Return the bytes of the live units' files."""
        query = sa.select(sa.func.coalesce(sa.func.sum(units.c.bytes), 0))
        where = (units.c.gallery_id == gallery.id, units.c.removed_version == 0)
        with self._database.reading() as connection:
            return int(connection.scalar(query.where(*where)) or 0)

    def add(self, gallery: Gallery, unit: NewUnit, placement: Placement, moment: str) -> StoredUnit:
        """Store a unit with its templates.

        Raises
        ------
        Conflict
            A template id is taken.
        InvalidInput
            A subject would have too many templates.
        StorageFull
            No room; nothing was changed.
        """
        try:
            with self._database.writing() as connection:
                _check_subjects(connection, gallery, unit)
                version = raise_version(connection, gallery, [placement.block])
                number = _insert_unit(connection, gallery, unit, placement, version, moment)
                _insert_templates(connection, gallery, unit, placement, version, number)
        except sa.exc.IntegrityError as error:
            raise Conflict("a template id of the unit is taken", hint="choose new ids") from error
        return StoredUnit(
            id=number,
            token=unit.token,
            shape=unit.shape,
            placement=placement,
            size=unit.size,
            sha256=unit.sha256,
            content_sha256=unit.content_sha256(),
            added_version=version,
            removed_version=0,
        )

    def remove(self, gallery: Gallery, unit: StoredUnit, template_ids: Sequence[bytes]) -> int:
        """Mark templates of one unit removed and forget their labels.

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
            gone = {"removed_version": version, "sealed_label": b""}
            connection.execute(templates.update().where(*alive, chosen).values(gone))
            if not connection.scalar(count.where(*alive)):
                dead = units.update().where(units.c.id == unit.id)
                connection.execute(dead.values(removed_version=version))
            return affected

    def _units(self, *where: sa.ColumnElement[bool]) -> list[StoredUnit]:
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(units).where(*where).order_by(units.c.id))
            return [_unit(row) for row in rows]


def _check_subjects(connection: sa.Connection, gallery: Gallery, unit: NewUnit) -> None:
    limit = gallery.spec.max_per_subject
    new = Counter(template.subject_id for template in unit.templates)
    subjects = list(new)
    for start in range(0, len(subjects), 500):
        some = subjects[start : start + 500]
        query = (
            sa.select(templates.c.subject_id, sa.func.count())
            .where(templates.c.gallery_id == gallery.id, templates.c.removed_version == 0)
            .where(templates.c.subject_id.in_(some))
            .group_by(templates.c.subject_id)
        )
        for subject, number in connection.execute(query):
            new[subject] += number
    if max(new.values()) > limit:
        raise InvalidInput(
            f"a subject would have more than {limit} templates in this gallery",
            hint="remove one of the subject's templates first",
        )


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


def _insert_unit(
    connection: sa.Connection,
    gallery: Gallery,
    unit: NewUnit,
    placement: Placement,
    version: int,
    moment: str,
) -> int:
    (signature,) = unit.receipt.signatures
    result = connection.execute(
        units.insert().values(
            gallery_id=gallery.id,
            token=unit.token,
            shape=unit.shape.value,
            block=placement.block,
            first_slot=placement.first_slot,
            step=placement.step,
            templates=placement.count,
            bytes=unit.size,
            sha256=unit.sha256,
            content_sha256=unit.content_sha256(),
            receipt=unit.receipt.payload,
            receipt_sha256=hashlib.sha256(unit.receipt.payload).digest(),
            receipt_key=signature.public_key,
            receipt_signature=signature.signature,
            enrolled_by=unit.enrolled_by,
            enrolled_at=moment,
            added_version=version,
            removed_version=0,
        )
    )
    (number,) = result.inserted_primary_key or (0,)
    return int(number)


def _insert_templates(
    connection: sa.Connection,
    gallery: Gallery,
    unit: NewUnit,
    placement: Placement,
    version: int,
    number: int,
) -> None:
    rows = [
        {
            "gallery_id": gallery.id,
            "unit_id": number,
            "template_id": template.template_id,
            "subject_id": template.subject_id,
            "block": placement.block,
            "slot": slot,
            "sealed_label": template.sealed_label,
            "label_sha256": hashlib.sha256(template.sealed_label).digest(),
            "added_version": version,
            "removed_version": 0,
        }
        for template, slot in zip(unit.templates, placement.slots(), strict=True)
    ]
    connection.execute(templates.insert(), rows)


def _unit(row: sa.Row[tuple[object, ...]]) -> StoredUnit:
    placement = Placement(row.block, row.first_slot, row.step, row.templates)
    return StoredUnit(
        id=row.id,
        token=row.token,
        shape=Shape(row.shape),
        placement=placement,
        size=row.bytes,
        sha256=row.sha256,
        content_sha256=row.content_sha256,
        added_version=row.added_version,
        removed_version=row.removed_version,
    )
