"""The record of zero tests: who answers for what, and what takes it off the record."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from underseal_auditor.store import database
from underseal_auditor.store.database import Database
from underseal_auditor.store.tested import (
    MAX_FAILED,
    MAX_UNPROVEN,
    SoundUnits,
    Standing,
    Suspect,
    Trial,
)
from underseal_core.errors import PermissionRefused

CLIENT, GALLERY = Suspect("client", "agency"), Suspect("gallery", "server/missing")
COUNTED = 14
"""Steps of the schema up to the one that counted tests and kept nothing else of them."""


def part(number: int) -> bytes:
    return bytes((number,)) * 32


def trial(suspect: Suspect, *numbers: int) -> Trial:
    return Trial(suspect, frozenset(map(part, numbers)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record.sqlite"


def standings_of(path: Path, key_epoch: str = "00") -> list[Standing]:
    with closing(Database(path)) as opened:
        return SoundUnits(opened, key_epoch).standings()


def test_a_crash_forgets_nothing_and_the_same_probe_clears_it(path: Path) -> None:
    for _ in range(3):
        with closing(Database(path)) as opened:
            SoundUnits(opened, "00").begin([trial(CLIENT, 1), trial(GALLERY, 7, 8)])
    assert standings_of(path) == [Standing(CLIENT, 0, 3), Standing(GALLERY, 0, 3)]
    with closing(Database(path)) as opened:
        record = SoundUnits(opened, "00")
        record.begin([trial(CLIENT, 1)])
        record.conclude([trial(CLIENT, 1)], [])
    assert standings_of(path) == [Standing(GALLERY, 0, 3)]


def test_units_are_cleared_when_the_last_of_them_is_sound(path: Path) -> None:
    with closing(Database(path)) as opened:
        record = SoundUnits(opened, "00")
        record.begin([trial(GALLERY, 1, 2, 3)])
        record.begin([trial(GALLERY, 2)])
        record.conclude([trial(GALLERY, 1, 2)], [])
        assert record.standings() == [Standing(GALLERY, 0, 1)]
        record.begin([trial(GALLERY, 1, 2)])  # of which nothing new can be learnt
        assert record.standings() == [Standing(GALLERY, 0, 1)]
    with closing(Database(path)) as opened:
        record = SoundUnits(opened, "00")
        record.conclude([trial(GALLERY, 3, 4)], [])
        assert record.standings() == []


def test_failed_tests_stay_whatever_passes(path: Path) -> None:
    with closing(Database(path)) as opened:
        record = SoundUnits(opened, "00")
        for _ in range(MAX_FAILED):
            record.check([CLIENT])
            record.begin([trial(CLIENT, 1)])
            record.conclude([], [trial(CLIENT, 1)])
            record.conclude([trial(CLIENT, 1), trial(CLIENT, 2)], [])
        with pytest.raises(PermissionRefused, match="were malformed"):
            record.begin([trial(CLIENT, 3)])
        assert record.standings() == [Standing(CLIENT, MAX_FAILED, 0)]


def test_tests_of_earlier_keys_say_nothing_about_these(path: Path) -> None:
    with closing(Database(path)) as opened:
        record = SoundUnits(opened, "00")
        for number in range(MAX_UNPROVEN):
            record.begin([trial(CLIENT, number)])
        with pytest.raises(PermissionRefused, match="abandoned"):
            record.check([CLIENT])
        SoundUnits(opened, "01").check([CLIENT])


def test_counts_of_earlier_versions_are_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "zero_test_counts" in database.STEPS[COUNTED]
    with monkeypatch.context() as earlier:
        earlier.setattr(database, "STEPS", database.STEPS[:COUNTED])
        Database(path).close()
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("INSERT INTO zero_tests VALUES ('client', 'agency', 3)")
        old.execute("INSERT INTO zero_tests VALUES ('client', 'bureau', 0)")
        old.execute("INSERT INTO zero_tests VALUES ('gallery', 'server/missing', 4)")
    assert standings_of(path) == [Standing(CLIENT, 3, 0), Standing(GALLERY, 4, 0)]
    with closing(Database(path)) as opened, pytest.raises(PermissionRefused, match="malformed"):
        SoundUnits(opened, "00").check([GALLERY])
