"""The power goes, and with it everything that was not synced: what was answered is there."""

from __future__ import annotations

import copy
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.crash.place import Home, Place, points, seed_of
from tests.gallery_life import GalleryLife, Open
from tests.power_loss import Remembered, calls, write

CHANGES = 14


@dataclass(frozen=True)
class Moment:
    """From which call on a life was as it is here, while a change was under way."""

    call: int
    life: GalleryLife


def record(home: Home, life: GalleryLife, random: Random, trace: Path) -> list[Moment]:
    """Let a server work, and write down what was answered when."""
    moments = []
    home.disk.watch(home.data, trace)
    with home.surviving(life):
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
    with home.serving(life):
        life.create()
        life.enrol()
    disk = Remembered.of(home.data)
    moments = record(home, life, random, home.folder / "trace")
    done = list(calls(home.folder / "trace"))
    chosen = set(random.sample(range(moments[0].call, len(done)), points(8)))
    for number, call in enumerate(done, start=1):
        disk.apply(call)
        if number in chosen:
            now = [moment.life for moment in moments if moment.call <= number][-1]
            shutil.rmtree(home.data)
            write(home.data, disk.left(names=number % 2 == 0))
            then = now.copy()
            with home.surviving(then):
                then.settle()
            home.processes.end(signal.SIGKILL)
            home.check()
