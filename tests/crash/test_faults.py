"""Every call that changes a file fails once, in turn: nothing is lost, doubled or half done.

An ordinary run takes some of the calls, others every time; ``make crash`` takes all.
"""

from __future__ import annotations

import errno
import signal
from random import Random

import pytest

from tests.crash.place import ERRORS, Home, NotStarted, Operation, Place, attempt, seed_of, turns
from tests.disk_faults import Action, Kind
from tests.gallery_life import ModelUnit
from tests.long_life import LongLife
from underseal_core.gallery.unit import Shape

QUIET = 3600.0
"""Seconds until the server saves blocks by itself: never, so that calls come in one order."""


def enrol_row(life: LongLife) -> None:
    life.send(life.new_unit(Shape.ROW))


def enrol_columns(life: LongLife) -> None:
    life.send(life.new_unit(Shape.COLUMNS))


def largest(life: LongLife) -> ModelUnit:
    return max(life.units.values(), key=lambda unit: len(unit.live))


def remove_one(life: LongLife) -> None:
    """Of a unit that goes on without it."""
    unit = largest(life)
    life.remove(unit, frozenset(sorted(unit.live)[:1]))


def remove_row(life: LongLife) -> None:
    unit = next(unit for unit in life.units.values() if unit.shape is Shape.ROW)
    life.remove(unit, frozenset(unit.live))


def remove_columns(life: LongLife) -> None:
    unit = next(unit for unit in life.units.values() if unit.shape is Shape.COLUMNS)
    life.remove(unit, frozenset(unit.live))


def leave_some_dead(life: LongLife) -> None:
    """Let there be a unit of which auditors may erase something."""
    if not any(set(unit.slots) - unit.live for unit in life.units.values()):
        while len((unit := life.new_unit()).ids) == 1:
            pass
        life.send(unit)
        life.remove(unit, frozenset(unit.ids[:1]))


BEFORE: dict[Operation, Operation] = {LongLife.erase: leave_some_dead}
"""What an operation needs, on a disk that is sound."""
OPERATIONS: tuple[Operation, ...] = (
    enrol_row,
    enrol_columns,
    LongLife.search,
    remove_one,
    remove_row,
    remove_columns,
    LongLife.relabel,
    LongLife.erase,
)


def get_ready(life: LongLife, operation: Operation) -> None:
    """Do what an operation needs before it."""
    if operation in BEFORE:
        BEFORE[operation](life)


def begin(place: Place) -> tuple[Home, LongLife]:
    """A gallery with some units in it, saved."""
    home = place.home()
    home.changes = {"save_seconds": QUIET}
    life = home.life(Random(1))
    with home.serving(life):
        life.create()
        for _ in range(3):
            enrol_row(life)
            enrol_columns(life)
    return home, life


@pytest.mark.parametrize("operation", [enrol_row, remove_one, remove_row])
@pytest.mark.parametrize("lasting", [False, True])
def test_a_commit_that_fails_is_not_found_by_the_next_start(
    place: Place, operation: Operation, lasting: bool
) -> None:
    """All of it is in SQLite's log when the sync fails: who reads that takes it for done."""
    home, life = begin(place)
    with home.surviving(life):
        life.search()  # begins the log
        log = "catalogue.sqlite-wal"
        home.disk.strike(
            Action.FAIL, 1, error=errno.EIO, kinds=Kind.SYNC, lasting=lasting, only=log
        )
        attempt(life, operation)
        assert home.disk.struck
    home.disk.heal()
    home.processes.end(signal.SIGKILL)
    assert (life.refused is None) == lasting
    with home.serving(life):
        life.settle()
    home.check()


def test_a_call_fails_and_the_server_goes_on(place: Place) -> None:
    home, life = begin(place)
    random = Random(seed_of("goes on"))
    with home.serving(life):
        for operation in OPERATIONS:
            for nth in turns(random, 2):
                get_ready(life, operation)
                home.disk.strike(Action.FAIL, nth, error=random.choice(ERRORS))
                attempt(life, operation)
                struck = home.disk.struck
                home.disk.heal()
                life.settle()
                if not struck:
                    break
            assert nth > 3
    home.check()


def test_a_call_fails_and_the_server_is_killed(place: Place) -> None:
    home, life = begin(place)
    random = Random(seed_of("killed"))
    for operation in OPERATIONS:
        for nth in turns(random, 5):
            with home.surviving(life):
                life.settle()
                get_ready(life, operation)
                home.disk.strike(Action.FAIL, nth, error=errno.EIO)
                attempt(life, operation)
            struck = home.disk.struck
            home.disk.heal()
            home.processes.end(signal.SIGKILL)
            if not struck:
                break
    with home.serving(life):
        life.settle()
    home.check()


def test_a_call_fails_while_the_server_starts(place: Place) -> None:
    home, life = begin(place)
    for nth in turns(Random(seed_of("starts")), 4):
        with home.surviving(life):
            enrol_row(life)
        home.processes.end(signal.SIGKILL)
        home.disk.strike(Action.FAIL, nth, error=errno.EIO)
        struck = start_badly(home, life)
        home.check()
        if not struck:
            break
    assert nth > 5


def start_badly(home: Home, life: LongLife) -> int:
    """Start on a disk that fails once: the server says so, or serves all the same."""
    try:
        with home.serving(life):
            struck = home.disk.struck
            home.disk.heal()
            life.settle()
    except NotStarted:
        struck = home.disk.struck
        home.disk.heal()
        said = home.processes.said
        assert said.startswith(("Damaged: ", "StorageFull: "))
        with home.serving(life):
            life.settle()
    return struck


def test_a_call_fails_while_the_server_stops(place: Place) -> None:
    home, life = begin(place)
    for nth in turns(Random(seed_of("stops")), 3):
        with home.surviving(life):
            life.settle()
            enrol_row(life)
            home.disk.strike(Action.FAIL, nth, error=errno.EIO)
        home.processes.end()
        struck = home.disk.struck
        home.disk.heal()
        if not struck:
            break
    with home.serving(life):
        life.settle()
    home.check()


def test_every_write_is_cut_short(place: Place) -> None:
    """The system may always write less than it was asked to."""
    home, life = begin(place)
    with home.serving(life):
        home.disk.strike(Action.SHORT, 1, lasting=True)
        for operation in OPERATIONS:
            operation(life)
            life.settle()
        assert home.disk.struck > 20
        home.disk.heal()
    home.check()
