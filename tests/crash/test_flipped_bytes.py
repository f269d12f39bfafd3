"""A byte of any file is flipped while the server is down: refused or repaired, never wrong."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from tests.crash.place import (
    KILLED,
    Home,
    NotStarted,
    Place,
    check_told,
    labs,
    points,
    seed_of,
    successions,
)
from tests.gallery_life import GalleryLife, Unanswered
from tests.oracles.resharings import council, reshare
from underseal_core.errors import Damaged
from underseal_core.gallery.unit import Shape
from underseal_core.log_entries import encode_entry
from underseal_proto.v1 import gallery_pb2

FLIPS = points(5)
"""Of each kind of file."""
CLEAR = ("Damaged: ", "InvalidInput: ", "Mismatch: ", "Conflict: ")
KINDS = {
    "unit": ("units/**/*.unit", "killed"),
    "block": ("blocks/**/*.tiles", "killed"),
    "database": ("catalogue.sqlite", "ended"),
    "log": ("catalogue.sqlite-wal", "killed"),
    "identity": ("catalogue.id", "killed"),
    "bundle": ("bundles/*.usb", "killed"),
    "switching": ("switching/*.usk", "moving"),
    "successions": ("switching/*.jsonl", "moving"),
}
"""Files, and the state of the folder."""


@pytest.fixture(scope="module")
def lives(place: Place) -> dict[str, tuple[Path, Home, GalleryLife]]:
    """A gallery about to move to a second key epoch, as a kill left it there, after a good end."""
    home = place.home()
    life = home.life(Random(3))
    with home.serving(life):
        life.create()
        for _ in range(3):
            life.send(life.new_unit(Shape.ROW))
            life.send(life.new_unit(Shape.COLUMNS))
    home.rotate(refreshed(home))
    shutil.copytree(home.data, home.folder / "moving")
    before = life.copy()
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
    after = {state: (home.folder / state, home, life) for state in ("killed", "ended")}
    return {**after, "moving": (home.folder / "moving", home, before)}


def refreshed(home: Home) -> Path:
    """Deal the shares of the first key epoch anew, and return the file that says so."""
    old = council(successions()[0].old)
    (succession,) = reshare(old, old.identities).successions
    path = home.folder / "successions.jsonl"
    path.write_bytes(encode_entry(succession) + b"\n")
    return path


def flip(path: Path, random: Random) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)


def outcome(home: Home, life: GalleryLife) -> str:
    """Start and compare everything; return what was refused, or nothing. The server lives on."""
    said = ""
    try:
        with home.surviving(life):
            life.look()
    except NotStarted:
        assert home.processes.said.startswith(CLEAR), home.processes.log.read_text()
        return home.processes.said
    except Unanswered as refused:
        check_told(refused.error)
        said = str(refused)
    assert home.processes.end(signal.SIGKILL) == KILLED, home.processes.log.read_text()
    return said


def way(home: Home, life: GalleryLife) -> str:
    """Ask for the way to the next epoch: right, or refused, and the gallery stays where it is."""
    refused = ""
    with home.surviving(life):
        life.look()
        asked = gallery_pb2.GetSuccessorRequest(key_epoch=labs()[0].bundle.epoch)
        try:
            parts = list(life.caller.galleries.GetSuccessor(asked))
        except Damaged as error:
            check_told(error)
            refused = error.public
        else:
            keys, bundles = (b"".join(p) for p in zip(*map(pieces, parts), strict=True))
            assert keys == successions()[0].key.to_bytes()
            assert bundles == labs()[1].bundle.to_bytes()
        life.look()
        assert not refused or life.lab is labs()[0]
    assert home.processes.end(signal.SIGKILL) == KILLED, home.processes.log.read_text()
    return refused


def pieces(part: gallery_pb2.GetSuccessorResponse) -> tuple[bytes, bytes]:
    return part.switching_key, part.bundle


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit(lives: dict[str, tuple[Path, Home, GalleryLife]], kind: str) -> None:
    pattern, state = KINDS[kind]
    base, home, life = lives[state]
    random = Random(seed_of(kind))
    look = way if state == "moving" else outcome
    for _ in range(FLIPS):
        shutil.rmtree(home.data)
        shutil.copytree(base, home.data)
        flip(random.choice(sorted(home.data.glob(pattern))), random)
        print(look(home, life.copy()))  # noqa: T201  # shown when the test fails


def test_a_flipped_bit_of_the_key_epoch(lives: dict[str, tuple[Path, Home, GalleryLife]]) -> None:
    """Among random bits it is rarely one that makes another epoch of the right form."""
    base, home, life = lives["ended"]
    shutil.rmtree(home.data)
    shutil.copytree(base, home.data)
    epoch = life.lab.bundle.epoch
    digit = next(digit for digit in epoch if digit.isdigit())
    flipped = epoch.replace(digit, chr(ord(digit) ^ 1), 1)
    with closing(sqlite3.connect(home.data / "catalogue.sqlite")) as catalogue:
        catalogue.execute("UPDATE galleries SET key_epoch = ?", [flipped])
        catalogue.commit()
    assert outcome(home, life.copy()) == "the server cannot open the gallery"
