"""What zero tests have found: units that passed, and how often somebody's were not passed.

A test that is not passed shows whoever sees its values some 600 bits about the key. So it
counts before the first value leaves, against the client and the gallery, until it is passed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from underseal_auditor.store.database import Database
from underseal_core.errors import NotFound, PermissionRefused
from underseal_core.gallery.unit import Unit

MAX_FAILED: Final = 4
"""Tests that may fail, or be abandoned, before a client or a gallery is refused for good."""

_COUNT: Final = "SELECT failed FROM zero_tests WHERE kind = ? AND name = ?"


@dataclass(frozen=True, slots=True)
class Suspect:
    """Who may be the cause: ``kind`` is ``client`` or ``gallery``."""

    kind: str
    name: str


class SoundUnits:
    """An auditor's record of zero tests, in its database.

    Parameters
    ----------
    key_epoch
        A unit that is sound under other keys says nothing.
    """

    def __init__(self, database: Database, key_epoch: str) -> None:
        self._database = database
        self._key_epoch = key_epoch
        with database.transaction() as connection:
            rows = connection.execute(
                "SELECT digest FROM tested_units WHERE key_epoch = ?", (key_epoch,)
            ).fetchall()
        self._sound = {bytes(digest) for (digest,) in rows}

    def untested(self, units: Iterable[Unit]) -> list[Unit]:
        """Return those that no test has found sound."""
        return [unit for unit in units if _digest(unit) not in self._sound]

    def passed(self, units: Iterable[Unit]) -> None:
        """Take note of units that were found sound."""
        digests = [_digest(unit) for unit in units]
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT INTO tested_units VALUES (?, ?) ON CONFLICT DO NOTHING",
                [(self._key_epoch, digest) for digest in digests],
            )
        self._sound.update(digests)

    def check(self, suspects: Iterable[Suspect]) -> None:
        """Refuse whoever failed too often.

        Raises
        ------
        PermissionRefused
            One of them did.
        """
        with self._database.transaction() as connection:
            for one in suspects:
                row = connection.execute(_COUNT, (one.kind, one.name)).fetchone()
                if row is not None and row[0] >= MAX_FAILED:
                    raise PermissionRefused(
                        f"ciphertexts of {one.kind} {one.name} were malformed",
                        hint="ask the auditors",
                    )

    def count(self, suspects: Iterable[Suspect]) -> None:
        """Count a test against them, durably, before its first value leaves.

        Raises
        ------
        PermissionRefused
            One of them failed too often before; then nothing may leave.
        """
        suspects = tuple(suspects)
        self.check(suspects)
        with self._database.transaction() as connection:
            for one in suspects:
                connection.execute(
                    "INSERT INTO zero_tests VALUES (?, ?, 1)"
                    " ON CONFLICT (kind, name) DO UPDATE SET failed = failed + 1",
                    (one.kind, one.name),
                )

    def clear(self, suspects: Iterable[Suspect]) -> None:
        """Count a test no longer, which they have passed."""
        with self._database.transaction() as connection:
            for one in suspects:
                connection.execute(
                    "UPDATE zero_tests SET failed = max(0, failed - 1) WHERE kind = ? AND name = ?",
                    (one.kind, one.name),
                )

    def failed(self) -> list[tuple[Suspect, int]]:
        """List who failed, and how often."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT kind, name, failed FROM zero_tests WHERE failed > 0 ORDER BY kind, name"
            ).fetchall()
        return [(Suspect(kind, name), int(failed)) for kind, name, failed in rows]

    def forgive(self, suspect: Suspect) -> None:
        """Forget somebody's failed tests.

        Raises
        ------
        NotFound
            There are none.
        """
        with self._database.transaction() as connection:
            changed = connection.execute(
                "DELETE FROM zero_tests WHERE kind = ? AND name = ? AND failed > 0",
                (suspect.kind, suspect.name),
            ).rowcount
        if not changed:
            raise NotFound(f"no test of {suspect.kind} {suspect.name} failed")


def _digest(unit: Unit) -> bytes:
    """Return what names a unit's ciphertexts and what of them may hold something."""
    erased = ",".join(map(str, unit.erased))
    text = f"{unit.shape.value} {unit.placement.count} {unit.placement.step} {erased} "
    return hashlib.sha256(text.encode() + unit.sha256).digest()
