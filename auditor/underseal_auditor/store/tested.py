"""What zero tests have found: units that passed, and tests that somebody has to answer for.

A test that is not passed shows whoever sees its values some 600 bits about the key. So it is on
record before its first value leaves, against the client or the gallery, until what was tested is
found sound: then its values were noise. Another probe or unit that passes says nothing about it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Final

from underseal_auditor.store.database import Database
from underseal_core.errors import NotFound, PermissionRefused
from underseal_core.gallery.unit import Unit

MAX_FAILED: Final = 4
"""Tests that may fail before a client or a gallery is refused for good."""
MAX_UNPROVEN: Final = 6
"""Tests that may have failed or been abandoned before it is refused until they are proven."""

MAX_LISTED: Final = 64

_PART: Final = 32
_OPEN: Final = (
    "SELECT id, parts FROM zero_tests"
    " WHERE kind = ? AND name = ? AND key_epoch = ? AND failed = 0 ORDER BY id"
)


@dataclass(frozen=True, slots=True)
class Suspect:
    """Who may be the cause: ``kind`` is ``client``, ``gallery``, or ``erasure`` in a gallery."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The submission that a test is of; every field is empty if it is of none."""

    client: str = ""
    request_id: str = ""
    request_sha256: str = ""
    result_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """One test that somebody answers for: ``parts`` are SHA-256 of the ciphertexts in it."""

    suspect: Suspect
    parts: frozenset[bytes]
    opened: Opened = Opened()


@dataclass(frozen=True, slots=True)
class Standing:
    """How many tests of a suspect ``failed``, and how many were ``abandoned`` and not proven."""

    suspect: Suspect
    failed: int
    abandoned: int


class SoundUnits:
    """An auditor's record of zero tests, in its database.

    Parameters
    ----------
    key_epoch
        A unit that is sound under other keys says nothing, nor does a value about them.
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
        return [unit for unit in units if unit_digest(unit) not in self._sound]

    def passed(self, units: Iterable[Unit]) -> None:
        """Take note of units that were found sound."""
        digests = {unit_digest(unit) for unit in units}
        with self._database.transaction() as connection:
            self._keep(connection, digests)
        self._sound.update(digests)

    def check(self, suspects: Iterable[Suspect]) -> None:
        """Refuse whoever has too many tests to answer for.

        Raises
        ------
        PermissionRefused
            One of them has.
        """
        with self._database.transaction() as connection:
            for one in suspects:
                self._check(connection, one)

    def begin(self, trials: Iterable[Trial]) -> None:
        """Put tests on record, durably, before their first value leaves.

        Nobody answers for what was found sound before.

        Raises
        ------
        PermissionRefused
            A suspect has too many to answer for; then nothing may leave.
        """
        with self._database.transaction() as connection:
            for one in trials:
                self._check(connection, one.suspect)
                if not one.parts <= self._sound:
                    self._insert(connection, one, failed=0)

    def conclude(self, passed: Iterable[Trial], failed: Iterable[Trial]) -> None:
        """Take note of what tests found that were begun.

        Each abandoned one of which all parts are found sound by now is off the record.
        """
        passed = tuple(passed)
        units = {part for one in passed if one.suspect.kind == "gallery" for part in one.parts}
        with self._database.transaction() as connection:
            self._keep(connection, units)
            for one in passed:
                self._settle(connection, one.suspect, one.parts | units)
            for one in failed:
                self._fail(connection, one)
        self._sound.update(units)

    def abandoned(self) -> list[tuple[str, str]]:
        """List client and id of requests whose tests were not concluded, the oldest first."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT client, request_id FROM zero_tests"
                " WHERE failed = 0 AND key_epoch = ? AND request_id <> ''"
                " GROUP BY client, request_id ORDER BY min(id) LIMIT ?",
                (self._key_epoch, MAX_LISTED),
            ).fetchall()
        return [(str(client), str(request_id)) for client, request_id in rows]

    def proven(self, opened: Opened) -> None:
        """Take abandoned tests of a submission off the record: what it holds is sound."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM zero_tests WHERE failed = 0 AND key_epoch = ? AND client = ?"
                " AND request_id = ? AND request_sha256 = ? AND result_sha256 = ?",
                (self._key_epoch, *astuple(opened)),
            )

    def standings(self) -> list[Standing]:
        """List who has tests to answer for."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT kind, name, sum(failed), sum(1 - failed) FROM zero_tests"
                " GROUP BY kind, name ORDER BY kind, name"
            ).fetchall()
        return [Standing(Suspect(*who), int(bad), int(left)) for *who, bad, left in rows]

    def forgive(self, suspect: Suspect) -> None:
        """Forget somebody's tests.

        Raises
        ------
        NotFound
            There are none.
        """
        with self._database.transaction() as connection:
            changed = connection.execute(
                "DELETE FROM zero_tests WHERE kind = ? AND name = ?", (suspect.kind, suspect.name)
            ).rowcount
        if not changed:
            raise NotFound(f"no test of {suspect.kind} {suspect.name} failed or was abandoned")

    def _check(self, connection: sqlite3.Connection, one: Suspect) -> None:
        failed, abandoned = connection.execute(
            "SELECT coalesce(sum(failed), 0), coalesce(sum(failed = 0 AND key_epoch = ?), 0)"
            " FROM zero_tests WHERE kind = ? AND name = ?",
            (self._key_epoch, one.kind, one.name),
        ).fetchone()
        if failed >= MAX_FAILED:
            text = f"ciphertexts of {one.kind} {one.name} were malformed"
        elif failed + abandoned >= MAX_UNPROVEN:
            text = f"too many zero tests of {one.kind} {one.name} were abandoned"
        else:
            return
        raise PermissionRefused(text, hint="ask the auditors")

    def _keep(self, connection: sqlite3.Connection, digests: Iterable[bytes]) -> None:
        connection.executemany(
            "INSERT INTO tested_units VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(self._key_epoch, digest) for digest in digests],
        )

    def _insert(self, connection: sqlite3.Connection, one: Trial, *, failed: int) -> None:
        connection.execute(
            "INSERT INTO zero_tests (kind, name, key_epoch, parts, failed,"
            " client, request_id, request_sha256, result_sha256)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (one.suspect.kind, one.suspect.name, self._key_epoch, _pack(one.parts), failed,
             *astuple(one.opened)),
        )  # fmt: skip

    def _settle(
        self, connection: sqlite3.Connection, suspect: Suspect, sound: frozenset[bytes]
    ) -> None:
        """Take those off the record whose parts are all in ``sound``, or found sound before."""
        owner = (suspect.kind, suspect.name, self._key_epoch)
        rows = connection.execute(_OPEN, owner).fetchall()
        proven = [(number,) for number, parts in rows if _unpack(parts) - sound <= self._sound]
        connection.executemany("DELETE FROM zero_tests WHERE id = ?", proven)

    def _fail(self, connection: sqlite3.Connection, one: Trial) -> None:
        owner = (one.suspect.kind, one.suspect.name, self._key_epoch)
        rows = connection.execute(_OPEN, owner).fetchall()
        own = [number for number, parts in rows if parts == _pack(one.parts)]
        if own:
            connection.execute("UPDATE zero_tests SET failed = 1 WHERE id = ?", (own[0],))
        else:  # the same was proven or forgiven meanwhile
            self._insert(connection, one, failed=1)


def unit_digest(unit: Unit) -> bytes:
    """Return what names a unit's ciphertexts and what of them may hold something."""
    erased = ",".join(map(str, unit.erased))
    text = f"{unit.shape.value} {unit.placement.count} {unit.placement.step} {erased} "
    return hashlib.sha256(text.encode() + unit.sha256).digest()


def _pack(parts: frozenset[bytes]) -> bytes:
    return b"".join(sorted(parts))


def _unpack(parts: bytes) -> set[bytes]:
    return {parts[at : at + _PART] for at in range(0, len(parts), _PART)}
