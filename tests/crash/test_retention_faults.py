"""A call fails while templates leave by themselves: they leave all the same, wholly and once."""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from tests.crash.place import ERRORS, Home, NotStarted, Place, seed_of, turns
from tests.crash.test_crossings import accounted, erasures
from tests.crash.test_faults import enrol_columns, enrol_row
from tests.disk_faults import Action
from tests.gallery_life import Unanswered
from tests.long_life import LongLife
from underseal_core.gallery.unit import Shape


@dataclass
class Due:
    """A gallery whose server is down, with units that are to leave when it starts."""

    home: Home
    folder: Path
    life: LongLife

    def again(self) -> tuple[Home, LongLife]:
        shutil.rmtree(self.home.data)
        shutil.copytree(self.folder, self.home.data)
        return self.home, self.life.copy()


@pytest.fixture(scope="module")
def due(place: Place) -> Due:
    home = place.home()
    life = home.life(Random(5))
    with home.surviving(life):
        life.create()
        enrol_row(life)
        enrol_columns(life)
        until = datetime.now(UTC) + timedelta(seconds=10)
        for shape in Shape:
            life.enrol_until(life.new_unit(shape), until)
    home.processes.end(signal.SIGKILL)
    time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))
    shutil.copytree(home.data, home.folder / "due")
    return Due(home, home.folder / "due", life)


@pytest.mark.parametrize("action", [Action.FAIL, Action.KILL_AFTER])
def test_a_call_fails_while_templates_leave(due: Due, action: Action) -> None:
    """The server tries again, or its next start does; then it signs that they are erased."""
    random = Random(seed_of("retention"))
    for nth in turns(random, 20, sample=action is not Action.FAIL):
        home, life = due.again()
        home.disk.strike(action, nth, error=random.choice(ERRORS))
        struck = start_badly(home, life)
        with home.serving(life):
            life.settle()
            assert all(erasures(home, life).values())
        assert accounted(home)
        if not struck:
            break
    assert nth > 20


def start_badly(home: Home, life: LongLife) -> int:
    """Let templates leave on a disk that fails, or kills, once; return how often it did."""
    try:
        with home.surviving(life), suppress(Unanswered):
            life.make_again()
            life.check()
        home.processes.end(signal.SIGKILL)
    except NotStarted:
        said = home.processes.said
        assert not said or said.startswith(("Damaged: ", "StorageFull: "))
    struck = home.disk.struck
    home.disk.heal()
    return struck
