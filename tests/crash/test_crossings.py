"""Changes of a gallery that cross each other: labels, amendments, new keys, retention, restarts."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from tests.crash.place import KILLED, Home, Place, labs
from tests.crash.test_faults import begin
from tests.disk_faults import Action, Kind
from tests.gallery_life import DEADLINE, NAME, GalleryLife, ModelUnit, Unanswered
from tests.long_life import LongLife
from underseal_core.gallery.unit import Shape
from underseal_core.statements import utc_text
from underseal_proto.v1 import gallery_pb2
from underseal_server.check import Checker
from underseal_server.store.folders import epoch_name


@pytest.fixture
def home(place: Place) -> Home:
    """Units of key epochs that were left stay for auditors."""
    home = place.home()
    home.changes = {"old_units_seconds": 3600}
    return home


@pytest.fixture
def life(home: Home) -> LongLife:
    return home.life(Random(secrets.randbits(32)))


def unit_of(life: GalleryLife, shape: Shape, count: int = 6) -> ModelUnit:
    """Enrol a unit of so many templates."""
    while True:
        unit = life.new_unit(shape)
        if len(unit.ids) >= count:
            life.send(unit)
            return unit


def some(unit: ModelUnit, count: int) -> frozenset[bytes]:
    return frozenset(sorted(unit.live)[:count])


def move(home: Home, life: GalleryLife) -> None:
    """Go to the next key epoch."""
    before = life.lab
    old = home.data / "blocks" / "1" / epoch_name(before.bundle.epoch)
    assert home.rotate()
    deadline = time.monotonic() + DEADLINE
    while life.lab is before or old.exists():
        assert time.monotonic() < deadline
        life.look_for_epoch()


def wait_for_one_folder(home: Home) -> None:
    """Of blocks: looking at units of an earlier key epoch makes its own for a moment."""
    deadline = time.monotonic() + DEADLINE
    while len(list((home.data / "blocks" / "1").iterdir())) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def erasures(home: Home, life: GalleryLife) -> dict[bytes, bool]:
    """Removed templates, and whether the server signs that they are erased."""
    request = gallery_pb2.ListErasuresRequest(gallery=NAME)
    found = life.caller.galleries.ListErasures(request).erasures
    wait_for_one_folder(home)
    return {one.template_id: one.HasField("receipt") for one in found}


def accounted(home: Home) -> bool:
    """Whether no file holds anything that was removed."""
    report = Checker(home.data, lambda: None, deep=True, threads=1).run()
    print(report.findings)  # noqa: T201  # shown when the test fails
    return report.accounted


@pytest.mark.parametrize("shape", Shape)
def test_labels_change_before_and_after_new_keys_and_an_amendment(
    home: Home, life: LongLife, shape: Shape
) -> None:
    with home.serving(life):
        life.create()
        unit = unit_of(life, shape)
        for _ in range(2):
            life.relabel()
            life.check_labels()
            life.remove(unit, some(unit, 1))
            life.relabel()
            life.erase()
            life.check_labels()
            move(home, life)
            life.check_labels()
            life.check()
        assert list(erasures(home, life).values()) == [True, True]
    assert accounted(home)


@pytest.mark.parametrize("shape", Shape)
def test_erased_then_moved_and_erased_again(home: Home, life: LongLife, shape: Shape) -> None:
    """Receipts are given for both, and what an earlier key epoch has of the unit is deleted."""
    with home.serving(life):
        life.create()
        unit, other = unit_of(life, shape), unit_of(life, Shape.ROW)
        first, second = some(unit, 2), frozenset(sorted(unit.live)[2:4])
        life.remove(unit, first)
        life.erase()
        move(home, life)
        assert len(kept(home, 0)) == 2
        life.remove(unit, second)
        assert erasures(home, life) == dict.fromkeys(first, True) | dict.fromkeys(second, False)
        life.erase()
        assert erasures(home, life) == dict.fromkeys(first | second, True)
        assert kept(home, 0) == {other.token}
        life.send(life.new_unit())
        life.check()
    assert accounted(home)


def kept(home: Home, epoch: int) -> set[bytes]:
    """Names of units that are kept of a key epoch."""
    folder = home.data / "units" / "1" / epoch_name(labs()[epoch].bundle.epoch)
    return {bytes.fromhex(path.stem) for path in folder.iterdir()}


@pytest.mark.parametrize("removing", [False, True])
def test_a_kill_before_the_earlier_key_epoch_is_cleaned(
    home: Home, life: LongLife, removing: bool
) -> None:
    """The next start does it, and no receipt is signed while anything is left."""
    with home.surviving(life):
        life.create()
        unit = unit_of(life, Shape.COLUMNS)
        move(home, life)
        gone = some(unit, len(unit.live) if removing else 2)
        if not removing:
            life.remove(unit, gone)
        old = epoch_name(labs()[0].bundle.epoch)
        home.disk.strike(Action.KILL_BEFORE, 1, kinds=Kind.UNLINK, only=old)
        with pytest.raises(Unanswered):
            life.make(lambda life: life.remove(unit, gone) if removing else life.erase())
    assert home.processes.ended() == KILLED
    home.disk.heal()
    assert kept(home, 0) == {unit.token}
    with home.serving(life):
        life.settle()
        assert kept(home, 0) == set()
        assert erasures(home, life) == dict.fromkeys(gone, True)
    assert accounted(home)


def test_templates_whose_time_ends_while_the_server_is_down(home: Home, life: LongLife) -> None:
    """They are in no answer of the server that starts then."""
    with home.surviving(life):
        life.create()
        stays, leaves = unit_of(life, Shape.ROW), life.new_unit(Shape.COLUMNS)
        until = datetime.now(UTC) + timedelta(seconds=10)
        life.caller.enrol(
            leaves.vectors, leaves.shape, leaves.templates, keep_until=utc_text(until)
        )
        assert set(life.listed()) == {*stays.ids, *leaves.ids}
        home.processes.end(signal.SIGKILL)
    time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))
    with home.serving(life):
        assert set(life.listed()) == set(stays.ids)
        life.check()
        assert erasures(home, life) == dict.fromkeys(leaves.ids, True)
    assert accounted(home)


@contextmanager
def read_only(home: Home) -> Iterator[None]:
    """Mount the data folder over itself, for reading only."""
    folder = str(home.data)
    bound = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False)
    if bound.returncode != 0:
        pytest.skip("mounting a folder is not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a folder needs root")
def test_a_check_of_a_disk_that_may_only_be_read(place: Place) -> None:
    """It says that it cannot lock the folder, and nothing is written."""
    home, life = begin(place)
    before = {path: path.stat().st_mtime_ns for path in home.data.rglob("*") if path.is_file()}
    with read_only(home):
        assert home.processes.run("check", "--data", home.data, "--deep") != 0
        assert home.processes.said.startswith("InvalidInput: cannot use the data folder")
    after = {path: path.stat().st_mtime_ns for path in home.data.rglob("*") if path.is_file()}
    assert after == before
    with home.serving(life):
        life.settle()
