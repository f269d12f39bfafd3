"""The mirrored catalogues' tables: what may be added to them, and what one version holds."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from underseal_auditor.feed import (
    ENTRY_COLUMNS,
    UNIT_COLUMNS,
    StagedFeed,
    entry_row,
    unit_of,
    unit_row,
)
from underseal_auditor.history import Span
from underseal_auditor.verify.catalogue import AmendedUnit, Attested, CatalogueEntry, CatalogueUnit
from underseal_auditor.verify.provenance import Enrollers, check_occupancy
from underseal_core.amendment import Amendment
from underseal_core.errors import Damaged, NotFound
from underseal_core.gallery.unit import Placement, Shape, Unit, before
from underseal_core.log_entries import decode_entry, encode_entry
from underseal_core.provenance import EnrolReceipt, template_leaf
from underseal_core.snapshot import LiveEntry
from underseal_core.statements import Pin

_RETIRE: Final = """
UPDATE units SET removed_version = (
    SELECT max(removed_version) FROM templates t
    WHERE t.server = units.server AND t.gallery = units.gallery AND t.token = units.token
)
WHERE server = ? AND gallery = ? AND token = ? AND NOT EXISTS (
    SELECT 1 FROM templates t
    WHERE t.server = units.server AND t.gallery = units.gallery AND t.token = units.token
    AND t.removed_version = 0
)
"""
"""A unit leaves its block with the last of its templates."""

Place = tuple[str, str]
"""Server and gallery."""


def version(connection: sqlite3.Connection, place: Place) -> int:
    """Return the version up to which a gallery is mirrored, 0 when it is not."""
    row = connection.execute(
        "SELECT version FROM galleries WHERE server = ? AND gallery = ?", place
    ).fetchone()
    return 0 if row is None else int(row[0])


def spans(connection: sqlite3.Connection, place: Place) -> Iterator[Span]:
    """Yield every unit that was ever there, in the order of coming."""
    rows = connection.execute(
        "SELECT token, shape, block, first_slot, step, templates, sha256, added_version,"
        " removed_version, amendment FROM units WHERE server = ? AND gallery = ?"
        " ORDER BY added_version, token",
        place,
    )
    for token, shape, block, first, step, count, sha256, added, removed, entry in rows:
        placement = Placement(block, first, step, count)
        unit = Unit(token=token, shape=Shape(shape), placement=placement, sha256=sha256)
        if not entry:
            yield Span(unit, added, removed)
            continue
        amendment = _amendment(entry)
        redaction = amendment.redaction()
        old = bytes.fromhex(amendment.old_sha256)
        yield Span(replace(unit, sha256=old, redaction=before(redaction)), added, 0, former=True)
        yield Span(replace(unit, redaction=redaction), added, removed)


def check_pin(connection: sqlite3.Connection, place: Place, pin: Pin) -> None:
    """Check that a gallery is pinned to what it was when it was first mirrored."""
    row = connection.execute(
        "SELECT pin FROM galleries WHERE server = ? AND gallery = ?", place
    ).fetchone()
    if row is not None and Pin.model_validate_json(row[0]) != pin:
        raise Damaged(
            "the server's gallery is pinned to something else than before",
            hint="if it was deleted and made again, an auditor must tell the registrar: "
            "underseal-auditor mirror forget",
        )


def apply(
    connection: sqlite3.Connection, place: Place, staged: StagedFeed, signers: dict[bytes, str]
) -> None:
    """Add what a checked feed holds; ``signers``: the enrollers of its units by token.

    Raises
    ------
    Damaged
        It contradicts what was mirrored.
    """
    touched = set()
    try:
        for unit in staged.units():
            templates = staged.templates_of(unit)
            _insert(connection, place, unit, templates, signers[unit.token])
            if any(template.removed_version for template in templates):
                touched.add(unit.token)
    except sqlite3.IntegrityError as error:
        raise Damaged("the server's catalogue contradicts what it stated before") from error
    for entry in staged.removals():
        _remove(connection, place, entry)
        touched.add(entry.unit_token)
    retire(connection, place, touched)


def retire(connection: sqlite3.Connection, place: Place, tokens: Iterable[bytes]) -> None:
    """Take note of units that have lost the last of their templates."""
    connection.executemany(_RETIRE, [(*place, token) for token in tokens])


def amend(
    connection: sqlite3.Connection,
    place: Place,
    amended: AmendedUnit,
    check: Callable[[CatalogueUnit, AmendedUnit], Amendment],
) -> None:
    """Take note of a unit's last amendment.

    Parameters
    ----------
    check
        Checks it for the unit as it was mirrored.

    Raises
    ------
    Damaged
        It is of no unit, older than one known before, or erases what was not removed.
    """
    try:
        known = unit(connection, place, amended.token)
    except NotFound as error:
        raise Damaged("the server's catalogue has an amendment of no unit") from error
    statement = check(known, amended)
    rows = connection.execute(
        "SELECT place FROM templates WHERE server = ? AND gallery = ? AND token = ?"
        " AND removed_version > 0 AND removed_version <= ?",
        (*place, amended.token, amended.version),
    )
    if not set(statement.redaction().erased) <= {row[0] for row in rows}:
        raise Damaged("the server's catalogue has an amendment that erases what is enrolled")
    connection.execute(
        "UPDATE units SET sha256 = ?, amendment = ?, amended_version = ?"
        " WHERE server = ? AND gallery = ? AND token = ?",
        (amended.sha256, encode_entry(amended.amendment), amended.version, *place, amended.token),
    )


@dataclass(frozen=True, slots=True)
class HalfRemoved:
    """A live unit, and all places in it of templates that were removed: more than are erased."""

    unit: Unit
    removed: tuple[int, ...]


def removed_places(connection: sqlite3.Connection, place: Place, token: bytes) -> frozenset[int]:
    """Return the places in a unit of templates that were removed."""
    rows = connection.execute(
        "SELECT place FROM templates WHERE server = ? AND gallery = ? AND token = ?"
        " AND removed_version > 0",
        (*place, token),
    )
    return frozenset(row[0] for row in rows)


def half_removed(connection: sqlite3.Connection, place: Place) -> Iterator[HalfRemoved]:
    """Yield the live units that hold more removed templates than are erased, oldest first."""
    rows = connection.execute(
        "SELECT token FROM units WHERE server = ? AND gallery = ? AND removed_version = 0"
        " AND token IN (SELECT token FROM templates WHERE server = ? AND gallery = ?"
        " AND removed_version > 0) ORDER BY added_version, token",
        (*place, *place),
    ).fetchall()
    for (token,) in rows:
        found, removed = unit(connection, place, token), removed_places(connection, place, token)
        if removed > set(found.erased):
            yield HalfRemoved(found, tuple(sorted(removed)))


def amended_version(connection: sqlite3.Connection, place: Place) -> int:
    """Return the version of a gallery's last amendment, 0 if there is none."""
    row = connection.execute(
        "SELECT max(amended_version) FROM units WHERE server = ? AND gallery = ?", place
    ).fetchone()
    return int(row[0] or 0)


def attested(connection: sqlite3.Connection, place: Place, token: bytes) -> Attested:
    """Return a unit as it was signed for last, by its enroller or by auditors.

    Raises
    ------
    NotFound
        It was never mirrored.
    """
    known = unit(connection, place, token)
    if known.redaction is None:
        receipt = EnrolReceipt.parse(known.receipt.payload)
        epoch, sha256 = receipt.pin.key_epoch, receipt.unit_sha256
    else:
        amendment = _amendment(_entry_of(connection, place, token))
        epoch, sha256 = amendment.pin.key_epoch, amendment.new_sha256
    return Attested(place[1], epoch, replace(known, sha256=bytes.fromhex(sha256)))


def _amendment(entry: bytes) -> Amendment:
    return Amendment.parse(decode_entry(entry).payload)


def _entry_of(connection: sqlite3.Connection, place: Place, token: bytes) -> bytes:
    row = connection.execute(
        "SELECT amendment FROM units WHERE server = ? AND gallery = ? AND token = ?",
        (*place, token),
    ).fetchone()
    if row is None:
        raise NotFound("the unit was never enrolled")
    return bytes(row[0])


def _insert(
    connection: sqlite3.Connection,
    place: Place,
    unit: CatalogueUnit,
    templates: Iterable[CatalogueEntry],
    enroller: str,
) -> None:
    keep_until = EnrolReceipt.parse(unit.receipt.payload).keep_until
    row = (*place, *unit_row(unit), enroller, keep_until)
    connection.execute(
        f"INSERT INTO units (server, gallery, {UNIT_COLUMNS}, enroller, keep_until)"  # noqa: S608
        f" VALUES ({', '.join('?' * len(row))})",
        row,
    )
    connection.executemany(
        f"INSERT INTO templates (server, gallery, {ENTRY_COLUMNS})"  # noqa: S608
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(*place, *entry_row(_without_removed_label(entry))) for entry in templates],
    )


def _without_removed_label(entry: CatalogueEntry) -> CatalogueEntry:
    if entry.removed_version:
        return replace(entry, sealed_label=b"")
    if hashlib.sha256(entry.sealed_label).digest() != entry.label_sha256:
        raise Damaged("the server's catalogue has a label of another hash")
    return entry


def _remove(connection: sqlite3.Connection, place: Place, entry: CatalogueEntry) -> None:
    stored = connection.execute(
        "SELECT subject_id, token, place, label_sha256, removed_version"
        " FROM templates WHERE server = ? AND gallery = ? AND template_id = ?",
        (*place, entry.template_id),
    ).fetchone()
    fixed = (entry.subject_id, entry.unit_token, entry.place, entry.label_sha256)
    if stored != (*fixed, 0) or not entry.removed_version:
        raise Damaged("the server's catalogue contradicts what it stated before")
    connection.execute(
        "UPDATE templates SET removed_version = ?, sealed_label = x''"
        " WHERE server = ? AND gallery = ? AND template_id = ?",
        (entry.removed_version, *place, entry.template_id),
    )


def check_slots(connection: sqlite3.Connection, place: Place, pin: Pin, known: int) -> None:
    """Check the blocks that units were added to, from version ``known`` on."""
    rows = connection.execute(
        f"SELECT removed_version, amendment, {UNIT_COLUMNS} FROM units"  # noqa: S608
        " WHERE server = ? AND gallery = ? AND (removed_version = 0 OR removed_version > ?)"
        " AND block IN (SELECT block FROM units"
        " WHERE server = ? AND gallery = ? AND added_version > ?)",
        (*place, known, *place, known),
    )
    timeline: list[tuple[int, bool, Unit]] = []
    for removed, entry, *row in rows:
        unit = unit_of(tuple(row))
        if entry:  # what is erased was removed before: its slots may be another unit's since
            unit = replace(unit, redaction=_amendment(entry).redaction())
        timeline.append((unit.added_version, True, unit))
        if removed:
            timeline.append((removed, False, unit))
    check_occupancy(pin, timeline)


def check_enrollers(connection: sqlite3.Connection, place: Place, enrollers: Enrollers) -> None:
    """Check that whoever enrolled what is live still counts: the policy may have changed."""
    rows = connection.execute(
        "SELECT DISTINCT enroller, receipt_key FROM units"
        " WHERE server = ? AND gallery = ? AND removed_version = 0",
        place,
    )
    for name, key in rows:
        if enrollers.get(name) != key:
            raise Damaged(
                f"the gallery holds templates of {name}, whom the policy does not let enrol",
                hint="name it among the gallery's enrollers, or have its templates removed",
            )


def unit(connection: sqlite3.Connection, place: Place, token: bytes) -> CatalogueUnit:
    """Return a mirrored unit, also one that is gone.

    Raises
    ------
    NotFound
        It was never mirrored.
    """
    row = connection.execute(
        f"SELECT {UNIT_COLUMNS} FROM units WHERE server = ? AND gallery = ? AND token = ?",  # noqa: S608
        (*place, token),
    ).fetchone()
    if row is None:
        raise NotFound("the unit was never enrolled")
    entry = _entry_of(connection, place, token)
    redaction = _amendment(entry).redaction() if entry else None
    return replace(unit_of(row), redaction=redaction)


def leaves(connection: sqlite3.Connection, place: Place, token: bytes) -> list[bytes]:
    """Return the leaves that a mirrored unit's receipt covers, removed templates included."""
    rows = connection.execute(
        "SELECT template_id, subject_id, label_sha256 FROM templates"
        " WHERE server = ? AND gallery = ? AND token = ? ORDER BY place",
        (*place, token),
    )
    return [template_leaf(*row) for row in rows]


def overdue(connection: sqlite3.Connection, place: Place, moment: str) -> frozenset[bytes]:
    """Return the live templates of units whose time is over at ``moment``."""
    rows = connection.execute(
        "SELECT template_id FROM units JOIN templates t USING (server, gallery, token)"
        " WHERE server = ? AND gallery = ? AND keep_until > '' AND keep_until <= ?"
        " AND t.removed_version = 0",
        (*place, moment),
    )
    return frozenset(bytes(template_id) for (template_id,) in rows)


def changed_blocks(connection: sqlite3.Connection, place: Place, after: int) -> set[int]:
    """Return the blocks in which something came, changed or went after a version."""
    rows = connection.execute(
        "SELECT block FROM units WHERE server = ? AND gallery = ?"
        " AND (added_version > ? OR amended_version > ?)"
        " UNION SELECT block FROM templates t JOIN units u USING (server, gallery, token)"
        " WHERE t.server = ? AND t.gallery = ? AND t.removed_version > 0 AND t.removed_version > ?",
        (*place, after, after, *place, after),
    )
    return {block for (block,) in rows}


def live(
    connection: sqlite3.Connection, place: Place, block: int, version: int
) -> Iterator[tuple[LiveEntry, bool]]:
    """Yield what was live in a block at a version, in slot order, and whether it still is."""
    rows = connection.execute(
        "SELECT block, first_slot + place * step AS slot, template_id, subject_id, sha256,"
        " t.removed_version"
        " FROM units CROSS JOIN templates t USING (server, gallery, token)"
        " WHERE server = ? AND gallery = ? AND block = ? AND added_version <= ?"
        " AND (t.removed_version = 0 OR t.removed_version > ?) ORDER BY slot",
        (*place, block, version, version),
    )
    for *fields, removed in rows:
        yield LiveEntry(*fields), removed == 0
