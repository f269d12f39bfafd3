"""A server is killed, or a call of its disk fails, on the way to a new key epoch.

It ends in the bits of an undisturbed way.
"""

from __future__ import annotations

import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.crash.place import (
    ERRORS,
    KILLED,
    Home,
    NotStarted,
    Place,
    attempt,
    labs,
    points,
    seed_of,
    successions,
    turns,
)
from tests.disk_faults import Action
from tests.gallery_life import DEADLINE, Unanswered
from tests.long_life import LongLife
from underseal_core.gallery.unit import Shape
from underseal_server.check import Checker

POINTS = points(4, 24)
"""Spread over all calls from the start to the new epoch."""


@dataclass
class Base:
    """A gallery of the old epoch, and what becomes of it when nothing happens."""

    home: Home
    folder: Path
    life: LongLife
    files: dict[str, bytes]
    calls: int

    def again(self) -> tuple[Home, LongLife]:
        """Return the gallery as it was, with the new key epoch added."""
        home, life = self.before()
        home.rotate()
        return home, life

    def before(self) -> tuple[Home, LongLife]:
        """Return the gallery as it was."""
        shutil.rmtree(self.home.data)
        shutil.copytree(self.folder, self.home.data)
        self.home.moves = iter(successions())
        return self.home, self.life.copy()


def contents(home: Home) -> dict[str, bytes]:
    """Return every file of units and blocks by its name."""
    found = [*home.files("units"), *home.files("blocks")]
    return {str(path.relative_to(home.data)): path.read_bytes() for path in found}


def arrive(home: Home, life: LongLife, *, searching: bool = False) -> None:
    """Wait until the gallery is of the new key epoch, and the old one's files are deleted."""
    deadline = time.monotonic() + DEADLINE
    old = labs()[0].bundle.epoch[:16]
    folders = [home.data / part / "1" / old for part in ("units", "blocks")]
    while life.lab is not labs()[1] or any(folder.exists() for folder in folders):
        assert time.monotonic() < deadline
        if searching:
            attempt(life, LongLife.search)
        life.look_for_epoch()


@pytest.fixture(scope="module")
def base(place: Place) -> Base:
    home = place.home()
    life = home.life(Random(2))
    with home.serving(life):
        life.create()
        for shape in (Shape.ROW, Shape.COLUMNS, Shape.ROW, Shape.COLUMNS, Shape.ROW):
            life.send(life.new_unit(shape))
        unit = max(life.units.values(), key=lambda unit: len(unit.live))
        life.remove(unit, frozenset(sorted(unit.live)[:1]))
    folder = home.folder / "base"
    shutil.copytree(home.data, folder)
    made = Base(home, folder, life.copy(), {}, 0)
    home, life = made.again()
    home.disk.count()
    with home.serving(life):
        arrive(home, life)
    made.calls = home.disk.calls
    made.files = contents(home)
    assert len(made.files) == 6
    return made


def live_until_killed(home: Home, life: LongLife, *, enrolling: bool) -> None:
    """Search, and enrol, until the server dies."""
    try:
        with home.surviving(life):
            while True:
                life.check()
                if enrolling:
                    life.enrol()
    except Unanswered:
        assert home.processes.ended() == KILLED
    except NotStarted:
        pass
    assert home.disk.struck
    home.disk.heal()


@pytest.mark.parametrize("enrolling", [False, True])
def test_kills_on_the_way(base: Base, *, enrolling: bool) -> None:
    random = Random(seed_of("rotation"))
    for point in range(POINTS):
        nth = random.randint(base.calls * point // POINTS, base.calls * (point + 1) // POINTS)
        action = random.choice([Action.KILL_BEFORE, Action.KILL_AFTER, Action.KILL_AMID])
        home, life = base.again()
        home.disk.strike(action, max(nth, 1))
        live_until_killed(home, life, enrolling=enrolling)
        with home.serving(life):
            life.settle()
            arrive(home, life)
            life.check()
        home.check()
        found = contents(home)
        if enrolling:  # the blocks hold more then
            found = {name: data for name, data in found.items() if name in base.files}
            wanted = {name: data for name, data in base.files.items() if name.endswith(".unit")}
            assert {name: found[name] for name in wanted} == wanted
        else:
            assert found == base.files


def test_every_disturbed_start_goes_on(base: Base) -> None:
    """Killed again and again, at the first, second, third ... call, it still arrives."""
    home, life = base.again()
    for nth in range(1, base.calls, 7):
        home.disk.strike(Action.KILL_AFTER, nth)
        try:
            with home.surviving(life):
                arrive(home, life)
        except (Unanswered, NotStarted):
            continue
        home.disk.heal()
        home.processes.end(signal.SIGKILL)
        break
    with home.serving(life):
        life.settle()
        arrive(home, life)
        life.check()
    home.check()
    assert contents(home) == base.files


def test_a_call_fails_on_the_way(base: Base) -> None:
    """The server goes on by itself, and answers searches meanwhile."""
    random = Random(seed_of("rotation"))
    for nth in turns(random, 16):
        home, life = base.again()
        home.disk.strike(Action.FAIL, nth, error=random.choice(ERRORS))
        struck = arrive_badly(home, life)
        home.check()
        assert contents(home) == base.files
        if not struck:
            break
    assert nth > 50


def arrive_badly(home: Home, life: LongLife) -> int:
    """Move on a disk that fails once; return how often it did."""
    while not home.processes.runs:
        try:
            with home.serving(life):
                arrive(home, life, searching=True)
                struck = home.disk.struck
                home.disk.heal()
                life.settle()
                return struck
        except NotStarted:
            assert home.disk.struck
            assert home.processes.said.startswith(("Damaged: ", "StorageFull: "))
    raise AssertionError("a server runs already")


@pytest.mark.parametrize("action", [Action.FAIL, Action.KILL_BEFORE, Action.KILL_AFTER])
def test_a_call_fails_while_a_key_epoch_is_added(base: Base, action: Action) -> None:
    """Adding it again does what is missing, and nothing is left of the first attempt."""
    random = Random(seed_of("epoch"))
    for nth in turns(random, 5):
        home, life = base.before()
        files = home.next_epoch()
        assert files is not None
        command = ["epoch", "add", files.key, "--bundle", files.bundle, "--data", home.data]
        home.disk.strike(action, nth, error=random.choice(ERRORS))
        failed = home.processes.run(*command)
        struck = home.disk.struck
        home.disk.heal()
        assert not failed or struck
        home.check()
        assert home.processes.run(*command) == 0
        if not struck:
            break
        assert Checker(home.data, lambda: None, deep=False, threads=1, repair=True).run().accounted
    with home.serving(life):
        arrive(home, life)
        life.settle()
    assert contents(home) == base.files
    assert nth > 3
