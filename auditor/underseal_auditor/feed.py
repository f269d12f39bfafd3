"""A server's catalogue feed, and what came of it so far, before any of it counts.

The feed may be long and slow, so it is kept apart in a temporary database, which spills to disk
and is gone when it is closed: the auditor's own database is not held while a server talks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from underseal_auditor.verify.catalogue import (
    AmendedUnit,
    CatalogueEntry,
    CatalogueUnit,
    RelabelledUnit,
)
from underseal_core.errors import Damaged, StorageFull
from underseal_core.gallery.unit import Placement, Shape
from underseal_core.log_entries import decode_entry, encode_entry
from underseal_core.signing import Envelope, Signature
from underseal_core.statements import Pin

UNIT_COLUMNS: Final = (
    "token, shape, block, first_slot, step, templates, sha256,"
    " receipt_type, receipt, receipt_key, receipt_signature, added_version"
)
ENTRY_COLUMNS: Final = (
    "template_id, subject_id, token, place, sealed_label, label_sha256, removed_version"
)

_SCHEMA: Final = f"""
CREATE TABLE units ({UNIT_COLUMNS}, PRIMARY KEY (token)) WITHOUT ROWID;
CREATE TABLE templates ({ENTRY_COLUMNS}, PRIMARY KEY (template_id));
CREATE TABLE amended (token, sha256, entry, version, PRIMARY KEY (token)) WITHOUT ROWID;
CREATE UNIQUE INDEX places ON templates (token, place);
CREATE TABLE relabelled (
    token PRIMARY KEY, receipt_type, receipt, receipt_key, receipt_signature, version
) WITHOUT ROWID;
"""
_ADD_UNIT: Final = "INSERT INTO units VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_AMENDED: Final = "INSERT INTO amended VALUES (?, ?, ?, ?)"
_ADD_RELABELLED: Final = "INSERT INTO relabelled VALUES (?, ?, ?, ?, ?, ?)"
_ADD_ENTRY: Final = "INSERT INTO templates VALUES (?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Changes:
    """A piece of the feed; ``complete_version`` is 0 except in the last one."""

    units: tuple[CatalogueUnit, ...]
    entries: tuple[CatalogueEntry, ...]
    complete_version: int
    amended: tuple[AmendedUnit, ...] = ()
    relabelled: tuple[RelabelledUnit, ...] = ()


class CatalogueFeed(Protocol):
    """A server's catalogues, as an auditor asks for them."""

    def pin(self, gallery: str) -> Pin:
        """Return what the gallery is pinned to; raises ``NotFound``."""

    def changes(self, gallery: str, after_version: int) -> Iterator[Changes]:
        """Return every unit that was added, and every template that was added or removed, since."""


class StagedFeed:
    """A feed that came to its end. Close it, or use it as a context manager.

    Parameters
    ----------
    pieces
        Of the server.
    after_version
        What the feed was asked for.

    Raises
    ------
    Damaged
        It breaks off, goes on after its end, goes back in time, or names something twice.
    StorageFull
        No room for it.
    """

    def __init__(self, pieces: Iterable[Changes], after_version: int) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self.after_version = after_version
        self.version = 0
        try:
            self._fill(pieces)
            self._check_versions()
        except sqlite3.IntegrityError as error:
            self.close()
            raise Damaged("the server's catalogue feed names something twice") from error
        except sqlite3.OperationalError as error:
            self.close()
            raise StorageFull("there is no room for the server's catalogue feed") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop it."""
        self._database.close()

    def _fill(self, pieces: Iterable[Changes]) -> None:
        database = self._database
        database.executescript(f"PRAGMA journal_mode = OFF; {_SCHEMA}")
        database.execute("BEGIN")
        for piece in pieces:
            if self.version:
                raise Damaged("the server's catalogue feed goes on after its end")
            database.executemany(_ADD_UNIT, map(unit_row, piece.units))
            database.executemany(_ADD_ENTRY, map(entry_row, piece.entries))
            database.executemany(_ADD_AMENDED, map(_amended_row, piece.amended))
            database.executemany(_ADD_RELABELLED, map(_relabelled_row, piece.relabelled))
            self.version = piece.complete_version
        database.execute("COMMIT")

    def _check_versions(self) -> None:
        if self.version < self.after_version:
            raise Damaged(
                "the server's catalogue went back to an earlier version, or breaks off",
                hint="if the gallery was deleted and made again, an auditor must tell the "
                "registrar: underseal-auditor mirror forget",
            )
        low, high = self._database.execute(
            "SELECT min(version), max(version) FROM (SELECT added_version AS version FROM units"
            " UNION ALL SELECT removed_version FROM templates WHERE removed_version > 0"
            " UNION ALL SELECT version FROM amended UNION ALL SELECT version FROM relabelled)"
        ).fetchone()
        if low is not None and low <= self.after_version:
            raise Damaged("the server's catalogue has a template that was not there before")
        if high is not None and high > self.version:
            raise Damaged("the server's catalogue is from the future")

    def units(self) -> Iterator[CatalogueUnit]:
        """Yield the new units in the order of their versions."""
        query = f"SELECT {UNIT_COLUMNS} FROM units ORDER BY added_version, token"  # noqa: S608
        return map(unit_of, self._database.execute(query))

    def templates_of(self, unit: CatalogueUnit | RelabelledUnit) -> list[CatalogueEntry]:
        """Return what the feed says of one unit's templates, in the order of their places."""
        query = f"SELECT {ENTRY_COLUMNS} FROM templates WHERE token = ? ORDER BY place"  # noqa: S608
        return [CatalogueEntry(*row) for row in self._database.execute(query, (unit.token,))]

    def amended(self) -> Iterator[AmendedUnit]:
        """Yield the last amendments, of new units too, in the order of their versions."""
        rows = self._database.execute("SELECT * FROM amended ORDER BY version, token")
        for token, sha256, entry, version in rows:
            yield AmendedUnit(token, sha256, decode_entry(entry), version)

    def relabelled(self) -> Iterator[RelabelledUnit]:
        """Yield the units whose labels changed."""
        for token, kind, payload, key, signature, version in self._database.execute(
            "SELECT * FROM relabelled ORDER BY token"
        ):
            receipt = Envelope(kind, payload, (Signature(key, signature),))
            yield RelabelledUnit(token, receipt, version)

    def removals(self) -> Iterator[CatalogueEntry]:
        """Yield the templates of units that are neither new nor relabelled, without labels."""
        query = (
            "SELECT template_id, subject_id, token, place, x'', label_sha256, removed_version"
            " FROM templates WHERE token NOT IN"
            " (SELECT token FROM units UNION ALL SELECT token FROM relabelled)"
        )
        return (CatalogueEntry(*row) for row in self._database.execute(query))


def _amended_row(amended: AmendedUnit) -> tuple[object, ...]:
    return amended.token, amended.sha256, encode_entry(amended.amendment), amended.version


def _relabelled_row(unit: RelabelledUnit) -> tuple[object, ...]:
    (signature,) = unit.receipt.signatures
    receipt = (unit.receipt.payload_type, unit.receipt.payload)
    return (unit.token, *receipt, signature.public_key, signature.signature, unit.version)


def unit_row(unit: CatalogueUnit) -> tuple[object, ...]:
    """Return the values of ``UNIT_COLUMNS``."""
    placement, receipt = unit.placement, unit.receipt
    (signature,) = receipt.signatures
    return (
        unit.token, unit.shape.value, placement.block, placement.first_slot, placement.step,
        placement.count, unit.sha256, receipt.payload_type, receipt.payload,
        signature.public_key, signature.signature, unit.added_version,
    )  # fmt: skip


def unit_of(row: tuple[Any, ...]) -> CatalogueUnit:
    """Inverse of :func:`unit_row`."""
    token, shape, block, first_slot, step, count, sha256, kind, payload, key, signed, added = row
    return CatalogueUnit(
        token=token,
        shape=Shape(shape),
        placement=Placement(block, first_slot, step, count),
        sha256=sha256,
        receipt=Envelope(kind, payload, (Signature(key, signed),)),
        added_version=added,
    )


def entry_row(entry: CatalogueEntry) -> tuple[object, ...]:
    """Return the values of ``ENTRY_COLUMNS``."""
    return (
        entry.template_id, entry.subject_id, entry.unit_token, entry.place, entry.sealed_label,
        entry.label_sha256, entry.removed_version,
    )  # fmt: skip
