"""Calls fail while blocks are saved in the background: the server says so, and saves them later."""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from random import Random

import pytest

from tests.crash.place import ERRORS, Home, Operation, Place, seed_of, turns
from tests.crash.test_faults import begin, enrol_columns, enrol_row, remove_columns, remove_row
from tests.disk_faults import EVERY, Action, Kind
from tests.gallery_life import DEADLINE, FAILURES, NAME, GalleryLife
from underseal_core.errors import Damaged, NotFound
from underseal_core.gallery.block_file import read_header
from underseal_core.gallery.files import LocalFiles, StoredFile
from underseal_proto.v1 import gallery_pb2

OFTEN = 0.05
"""Seconds after which the server looks for what to save."""


def saved(home: Home, life: GalleryLife) -> bool:
    """Whether the checkpoints hold every unit, and no file is there that none needs."""
    wanted: dict[str, set[str]] = {}
    for unit in life.units.values():
        (block,) = {place[0] for place in unit.slots.values()}
        wanted.setdefault(f"{block}.tiles", set()).add(unit.token.hex())
    units = {path.stem for path in home.files("units")}
    return held(home) == wanted and units == set().union(*wanted.values())


def held(home: Home) -> dict[str, set[str]]:
    """Return the units of every checkpoint by its name."""
    found = {}
    for path in home.files("blocks"):
        try:
            header, _ = read_header(StoredFile(LocalFiles(path.parent), path.name))
        except (Damaged, NotFound):  # on its way, or gone by now
            continue
        found[path.name] = set(header.units)
    return found


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_until_saved(home: Home, life: GalleryLife) -> None:
    wait_until(partial(saved, home, life))


CHECKPOINT = "blocks/", EVERY, 2
RETIRED = "units/", Kind.UNLINK, 1
"""Files of units that no checkpoint needs any more."""


@pytest.mark.parametrize(
    ("operation", "calls"),
    [(enrol_row, CHECKPOINT), (remove_row, CHECKPOINT), (remove_row, RETIRED)],
)
def test_a_call_fails_while_a_block_is_saved(
    place: Place, operation: Operation, calls: tuple[str, Kind, int]
) -> None:
    """The next attempt saves it, and nothing that was answered is lost."""
    home, life = begin(place)
    home.changes = {"save_seconds": OFTEN}
    folder, kinds, share = calls
    random = Random(seed_of("checkpoint"))
    with home.surviving(life):
        for nth in turns(random, share):
            enrol_row(life)
            wait_until_saved(home, life)
            error = random.choice(ERRORS)
            home.disk.strike(Action.FAIL, nth, error=error, kinds=kinds, only=folder)
            operation(life)
            wait_until_saved(home, life)
            struck = home.disk.struck
            home.disk.heal()
            life.settle()
            if not struck:
                break
        assert nth > share
    home.processes.end(signal.SIGKILL)
    home.check()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_calls_fail_all_the_time_while_a_block_is_saved(place: Place, error: int) -> None:
    """The server goes on without, and what it answered is there when it is killed."""
    home, life = begin(place)
    home.changes = {"save_seconds": OFTEN}
    for operation in (enrol_row, remove_row, enrol_columns, remove_columns):
        with home.surviving(life):
            life.settle()
            wait_until_saved(home, life)
            home.disk.strike(Action.FAIL, 1, error=error, lasting=True, only="blocks/")
            operation(life)
            wait_until(lambda: home.disk.struck > 3)
            life.check()
        home.processes.end(signal.SIGKILL)
        home.disk.heal()
    with home.serving(life):
        life.settle()
    home.check()


def signed_for(life: GalleryLife) -> set[bytes]:
    """What it signs to be erased of the last unit removed; what is not saved it saves first."""
    request = gallery_pb2.ListErasuresRequest(gallery=NAME, template_ids=life.gone[-1].ids)
    found = life.caller.galleries.ListErasures(request).erasures
    return {one.template_id for one in found if one.HasField("receipt")}


def check_gone(home: Home, life: GalleryLife, receipts: set[bytes]) -> None:
    """No file holds a sealed label of what the server signed for."""
    removed = [template for unit in life.gone for template in unit.templates]
    labels = [one.sealed_label for one in removed if one.template_id in receipts]
    for path in home.data.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(label in data for label in labels), path


@pytest.mark.parametrize("killed", [False, True])
def test_a_call_fails_while_the_catalogue_notes_what_is_saved(place: Place, killed: bool) -> None:
    """Digests of blocks, and the log of removed labels: emptied, or no receipt is given.

    ``killed``: between the removal and that.
    """
    home, life = begin(place)
    random = Random(seed_of("catalogue of a checkpoint"))
    for nth in turns(random, 4):
        with ExitStack() as stack:
            stack.enter_context(home.surviving(life))
            life.settle()
            enrol_row(life)
            remove_row(life)
            if killed:
                home.processes.end(signal.SIGKILL)
                stack.enter_context(home.surviving(life))
            struck = ask_for_receipts(home, life, nth, random.choice(ERRORS))
        home.processes.end(signal.SIGKILL)
        if not struck:
            break
    assert nth > 4
    with home.serving(life):
        life.settle()
    home.check()


def ask_for_receipts(home: Home, life: GalleryLife, nth: int, error: int) -> int:
    """Ask once on a disk that fails, then on a sound one; return whether a call was hit."""
    receipts: set[bytes] = set()
    home.disk.strike(Action.FAIL, nth, error=error, only="catalogue.sqlite")
    with suppress(*FAILURES):
        receipts = signed_for(life)
    struck = home.disk.struck
    home.disk.heal()
    check_gone(home, life, receipts)
    receipts = signed_for(life)
    assert receipts == set(life.gone[-1].ids)
    check_gone(home, life, receipts)
    return struck
