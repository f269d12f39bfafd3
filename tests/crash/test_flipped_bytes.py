"""A byte of any file is flipped while the server is down: refused or repaired, never wrong."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from random import Random

import pytest

from tests.crash.place import Home, NotStarted, Place, labs, points, seed_of
from tests.gallery_life import GalleryLife, Unanswered
from underseal_core.gallery.unit import Shape

FLIPS = points(5)
"""Of each kind of file."""
CLEAR = ("Damaged: ", "InvalidInput: ", "Mismatch: ", "Conflict: ")
KINDS = {
    "unit": ("units/**/*.unit", "killed"),
    "block": ("blocks/**/*.tiles", "killed"),
    "database": ("catalogue.sqlite", "ended"),
    "log": ("catalogue.sqlite-wal", "killed"),
    "bundle": ("bundles/*.usb", "killed"),
    "switching": ("switching/*.usk", "killed"),
}
"""Files, and the state of the folder."""


@pytest.fixture(scope="module")
def lives(place: Place) -> dict[str, tuple[Path, Home, GalleryLife]]:
    """A gallery that moved to a second key epoch: as a kill left it, and after a good end."""
    home = place.home()
    life = home.life(Random(3))
    with home.serving(life):
        life.create()
        for _ in range(3):
            life.send(life.new_unit(Shape.ROW))
            life.send(life.new_unit(Shape.COLUMNS))
    home.rotate()
    with home.surviving(life):
        while life.lab is not labs()[1]:
            life.look_for_epoch()
        life.send(life.new_unit(Shape.ROW))
        unit = max(life.units.values(), key=lambda unit: len(unit.live))
        life.remove(unit, frozenset(sorted(unit.live)[:2]))
        life.send(life.new_unit(Shape.COLUMNS))
        life.check()
    home.processes.end(signal.SIGKILL)
    shutil.copytree(home.data, home.folder / "killed")
    with home.serving(life):
        life.settle()
    shutil.copytree(home.data, home.folder / "ended")
    return {state: (home.folder / state, home, life) for state in ("killed", "ended")}


def flip(path: Path, random: Random) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)


def outcome(home: Home, life: GalleryLife) -> str:
    """Start and compare everything; return what was refused, or nothing."""
    try:
        with home.surviving(life):
            life.settle()
        home.processes.end(signal.SIGKILL)
    except NotStarted:
        said = home.processes.said
        assert said.startswith(CLEAR), home.processes.log.read_text()
        return said
    except Unanswered as refused:
        home.processes.end(signal.SIGKILL)
        return str(refused)
    return ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit(lives: dict[str, tuple[Path, Home, GalleryLife]], kind: str) -> None:
    pattern, state = KINDS[kind]
    base, home, life = lives[state]
    random = Random(seed_of(kind))
    for _ in range(FLIPS):
        shutil.rmtree(home.data)
        shutil.copytree(base, home.data)
        flip(random.choice(sorted(home.data.glob(pattern))), random)
        print(outcome(home, life.copy()))  # noqa: T201  # shown when the test fails
