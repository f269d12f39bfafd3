"""A disk that does not delete: no receipt of erasure is signed for what is still there."""

from __future__ import annotations

import errno
import secrets
import time
from pathlib import Path
from random import Random

import pytest

from tests.crash.place import Home, Place, labs
from tests.crash.test_crossings import erasures, kept
from tests.disk_faults import Action, Kind
from tests.gallery_life import DEADLINE, GalleryLife, ModelUnit
from underseal_core.errors import Busy
from underseal_core.gallery.unit import Shape
from underseal_server.store.folders import epoch_name


@pytest.fixture
def home(place: Place) -> Home:
    home = place.home()
    home.changes = {"old_units_seconds": 3600}
    return home


@pytest.fixture
def life(home: Home) -> GalleryLife:
    return home.life(Random(secrets.randbits(32)))


def left(home: Home, part: str) -> Path:
    """Return the folder of the first key epoch."""
    return home.data / part / "1" / epoch_name(labs()[0].bundle.epoch)


def moved(home: Home, life: GalleryLife) -> ModelUnit:
    """Enrol a unit and go to the next key epoch."""
    life.create()
    unit = life.new_unit(Shape.COLUMNS)
    life.send(unit)
    assert home.rotate()
    deadline = time.monotonic() + DEADLINE
    while life.lab is labs()[0]:
        assert time.monotonic() < deadline
        life.look_for_epoch()
    return unit


def keep(home: Home, part: str) -> None:
    """Let no file of the first key epoch be deleted from now on."""
    only = str(left(home, part).relative_to(home.data))
    kinds = Kind.UNLINK | Kind.RMDIR
    home.disk.strike(Action.FAIL, 1, error=errno.EIO, kinds=kinds, lasting=True, only=only)


def test_a_unit_of_a_key_epoch_that_was_left_stays(home: Home, life: GalleryLife) -> None:
    with home.serving(life):
        unit = moved(home, life)
        keep(home, "units")
        life.remove(unit, frozenset(unit.live))
        assert erasures(home, life) == dict.fromkeys(unit.ids, False)
        assert home.disk.struck and kept(home, 0) == {unit.token}
        home.disk.heal()
        assert erasures(home, life) == dict.fromkeys(unit.ids, True)
        assert kept(home, 0) == set()


def test_a_block_of_a_key_epoch_that_was_left_stays(home: Home, life: GalleryLife) -> None:
    """The template is in its sum."""
    with home.serving(life):
        keep(home, "blocks")
        unit = moved(home, life)
        life.remove(unit, frozenset(unit.live))
        assert list(left(home, "blocks").iterdir())
        with pytest.raises(Busy, match="could not be erased"):
            erasures(home, life)
        home.disk.heal()
        assert erasures(home, life) == dict.fromkeys(unit.ids, True)
        assert not left(home, "blocks").exists()
