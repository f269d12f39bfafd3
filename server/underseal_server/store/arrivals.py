"""Rows of new units: PENDING, many in one transaction, then ACTIVE, many in one version."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from underseal_core.errors import Conflict, Damaged, InvalidInput
from underseal_core.gallery.unit import Placement
from underseal_server.store.database import Database
from underseal_server.store.records import Gallery, NewUnit, StoredUnit
from underseal_server.store.schema import templates, units
from underseal_server.store.units import raise_version

_CHUNK = 500
"""Values in one SQL list; far below every database's limit."""

Refusal = Conflict | InvalidInput


class Arrivals:
    """The tables of units and templates, as enrolment writes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, gallery: Gallery, arrived: Sequence[tuple[NewUnit, Placement]], moment: str
    ) -> list[StoredUnit | Refusal]:
        """Store units with their templates, PENDING: one transaction for all.

        Parameters
        ----------
        gallery
            Where they go.
        arrived
            Units and their places.
        moment
            The present, as text.

        Returns
        -------
        list of StoredUnit or Refusal
            One for each unit. ``Conflict``: a template id is taken; ``InvalidInput``: a subject
            would have too many templates. Such a unit is not stored, the others are.

        Raises
        ------
        StorageFull
            No room; nothing was changed.
        """
        with self._database.writing() as connection:
            return [_add(connection, gallery, *entry, moment) for entry in arrived]

    def activate(self, gallery: Gallery, numbers: Sequence[int], blocks: Iterable[int]) -> int:
        """Show PENDING units, which are in ``blocks``, from the next version on, and return it.

        Raises
        ------
        Damaged
            One of them is not PENDING; nothing was changed.
        """
        with self._database.writing() as connection:
            version = raise_version(connection, gallery, blocks)
            waiting = (units.c.added_version == 0, units.c.removed_version == 0)
            changed = 0
            for start in range(0, len(numbers), _CHUNK):
                chosen = units.c.id.in_(numbers[start : start + _CHUNK])
                shown = units.update().where(chosen, *waiting).values(added_version=version)
                changed += connection.execute(shown).rowcount
            if changed != len(numbers):
                raise Damaged("a unit that is to be shown is not waiting for it")
            return version


def _add(
    connection: sa.Connection, gallery: Gallery, unit: NewUnit, placement: Placement, moment: str
) -> StoredUnit | Refusal:
    content_sha256 = unit.content_sha256()
    try:
        with connection.begin_nested():
            _check_subjects(connection, gallery, unit)
            number = _insert_unit(connection, gallery, unit, placement, content_sha256, moment)
            _insert_templates(connection, gallery, unit, placement, number)
    except sa.exc.IntegrityError:
        return Conflict("a template id of the unit is taken", hint="choose new ids")
    except InvalidInput as error:
        return error
    return StoredUnit(
        id=number,
        token=unit.token,
        shape=unit.shape,
        placement=placement,
        size=unit.size,
        sha256=unit.sha256,
        content_sha256=content_sha256,
        added_version=0,
        removed_version=0,
    )


def _check_subjects(connection: sa.Connection, gallery: Gallery, unit: NewUnit) -> None:
    limit = gallery.spec.max_per_subject
    new = Counter(template.subject_id for template in unit.templates)
    subjects = list(new)
    for start in range(0, len(subjects), _CHUNK):
        some = subjects[start : start + _CHUNK]
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


def _insert_unit(
    connection: sa.Connection,
    gallery: Gallery,
    unit: NewUnit,
    placement: Placement,
    content_sha256: bytes,
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
            content_sha256=content_sha256,
            receipt=unit.receipt.payload,
            receipt_key=signature.public_key,
            receipt_signature=signature.signature,
            enrolled_by=unit.enrolled_by,
            enrolled_at=moment,
            keep_until=unit.keep_until,
            added_version=0,
            removed_version=0,
        )
    )
    (number,) = result.inserted_primary_key or (0,)
    return int(number)


def _insert_templates(
    connection: sa.Connection, gallery: Gallery, unit: NewUnit, placement: Placement, number: int
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
            "removed_version": 0,
        }
        for template, slot in zip(unit.templates, placement.slots(), strict=True)
    ]
    connection.execute(templates.insert(), rows)
