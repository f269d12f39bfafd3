"""The power goes, and with it everything that was not synced: what was answered is there."""

from __future__ import annotations

import copy
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.crash.place import KILLED, Home, Place, points, seed_of
from tests.disk_faults import Action, Kind
from tests.gallery_life import GalleryLife, Open, Unanswered
from tests.power_loss import Remembered, calls, write

CHANGES = 14


@dataclass(frozen=True)
class Moment:
    """From which call on a life was as it is here, while a change was under way."""

    call: int
    life: GalleryLife


def record(home: Home, life: GalleryLife, random: Random, trace: Path) -> list[Moment]:
    """Let a server work from its first start on, and write down what was answered when."""
    home.disk.watch(home.data, trace)
    with home.surviving(life):
        life.create()
        moments = [Moment(home.disk.traced, life.copy())]
        for number in range(CHANGES):
            begun = home.disk.traced
            before = life.copy()
            if number % 3 == 2:
                unit = random.choice(list(life.units.values()))
                ids = frozenset(random.sample(sorted(unit.live), random.randint(1, len(unit.live))))
                before.open = Open(before.units[unit.token], ids)
                life.remove(unit, ids)
            else:
                unit = life.new_unit()
                before.open = Open(copy.deepcopy(unit))
                life.send(unit)
            moments += [Moment(begun, before), Moment(home.disk.traced, life.copy())]
            life.search()
    home.processes.end(signal.SIGKILL)
    home.disk.watch(home.data)
    return moments


def test_what_was_answered_survives_a_loss_of_power(place: Place) -> None:
    random = Random(seed_of("power"))
    home = place.home()
    life = home.life(random)
    moments = record(home, life, random, home.folder / "trace")
    done = list(calls(home.folder / "trace"))
    chosen = set(random.sample(range(moments[0].call, len(done)), points(8)))
    disk = Remembered()
    for number, call in enumerate(done, start=1):
        disk.apply(call)
        if number in chosen or number == len(done):
            now = [moment.life for moment in moments if moment.call <= number][-1]
            shutil.rmtree(home.data)
            write(home.data, disk.left(names=number in chosen and number % 2 == 0))
            then = now.copy()
            with home.surviving(then):
                then.settle()
            home.processes.end(signal.SIGKILL)
            home.check()


def test_a_kill_before_the_sync_of_a_gallerys_folder(place: Place) -> None:
    """The next start finds the folder there, and cannot know that it is not durable."""
    home = place.home()
    life, trace = home.life(Random(seed_of("folder"))), home.folder / "trace"
    home.disk.watch(home.data, trace)
    with home.surviving(life):
        life.create()
        home.disk.strike(Action.KILL_BEFORE, 1, kinds=Kind.SYNC, only="units")
        with pytest.raises(Unanswered):
            life.enrol()
    assert home.processes.ended() == KILLED
    home.disk.heal()
    assert len(list((home.data / "units").iterdir())) == 1
    with home.surviving(life):
        life.settle()
    home.processes.end(signal.SIGKILL)
    home.disk.watch(home.data)
    disk = Remembered()
    for call in calls(trace):
        disk.apply(call)
    shutil.rmtree(home.data)
    write(home.data, disk.left(names=False))
    with home.serving(life):
        life.settle()
    home.check()
