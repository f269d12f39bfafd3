"""Rows of amendments: which units k auditors have erased templates of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from underseal_core.amendment import Amendment
from underseal_core.errors import Conflict
from underseal_core.gallery.unit import before, redacted_name
from underseal_core.log_entries import encode_entry
from underseal_core.provenance import EnrolReceipt
from underseal_core.signing import Envelope
from underseal_server.store.database import Database
from underseal_server.store.records import Gallery, StoredUnit
from underseal_server.store.schema import amendments, templates, units
from underseal_server.store.units import raise_version

_HINT: Final = "ask the auditors to look at the gallery again"


@dataclass(frozen=True, slots=True)
class SignedAmendment:
    """An amendment whose signatures were checked."""

    statement: Amendment
    envelope: Envelope

    def done(self, unit: StoredUnit) -> bool:
        """Whether the unit is already what this makes of it."""
        return unit.sha256.hex() == self.statement.new_sha256


class Amendments:
    """The table of amendments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, gallery: Gallery, unit: StoredUnit, amendment: SignedAmendment) -> int:
        """Give a unit the hash of its new ciphertexts, and return the gallery's version with it.

        Raises
        ------
        Conflict
            The unit is not what the amendment speaks of, or a template that it erases is live;
            nothing was changed.
        """
        statement, redaction = amendment.statement, amendment.statement.redaction()
        earlier = before(redaction)
        row = {
            "unit_id": unit.id,
            "name": redacted_name(unit.token, redaction),
            "former_name": unit.token if earlier is None else redacted_name(unit.token, earlier),
            "entry": encode_entry(amendment.envelope),
        }
        with self._database.writing() as connection:
            _check(connection, gallery, unit, statement)
            version = raise_version(connection, gallery, [unit.placement.block])
            this = units.update().where(units.c.id == unit.id)
            connection.execute(this.values(sha256=bytes.fromhex(statement.new_sha256)))
            connection.execute(amendments.delete().where(amendments.c.unit_id == unit.id))
            connection.execute(amendments.insert().values(**row, version=version))
        return version


def amended_name(unit: StoredUnit, amendment: SignedAmendment) -> bytes:
    """Return the name of the ciphertexts that an amendment speaks of."""
    return redacted_name(unit.token, amendment.statement.redaction())


def check_amendment(unit: StoredUnit, gallery: Gallery, statement: Amendment) -> None:
    """Check that an amendment speaks of a unit as it is.

    Raises
    ------
    Conflict
        It does not.
    """
    redaction, known = statement.redaction(), unit.redaction
    count = 0 if known is None else known.count
    sound = (
        (statement.gallery, statement.pin) == (gallery.name, gallery.spec.pin)
        and statement.token == unit.token.hex()
        and statement.old_sha256 == unit.sha256.hex()
        and redaction.count == count + 1
        and set(unit.erased) < set(redaction.erased)
        and redaction.erased[-1] < unit.placement.count
        and not unit.removed_version
    )
    if not sound:
        raise Conflict("the amendment is of another state of the unit", hint=_HINT)


def _check(
    connection: sa.Connection, gallery: Gallery, unit: StoredUnit, statement: Amendment
) -> None:
    row = connection.execute(sa.select(units).where(units.c.id == unit.id)).one_or_none()
    if row is None or row.removed_version or row.sha256 != unit.sha256:
        raise Conflict("the unit has changed meanwhile", hint=_HINT)
    check_amendment(unit, gallery, statement)
    if EnrolReceipt.parse(row.receipt).unit_sha256 != statement.enrolled_sha256:
        raise Conflict("the amendment is of another enrolment", hint=_HINT)
    slots = unit.placement.slots()
    erased = {slots[place] for place in statement.redaction().erased}
    live = sa.select(templates.c.slot).where(
        templates.c.unit_id == unit.id, templates.c.removed_version == 0
    )
    if erased & set(connection.scalars(live)):
        raise Conflict("the amendment erases a template that is not removed", hint=_HINT)
