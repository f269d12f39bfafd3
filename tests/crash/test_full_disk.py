"""A disk without room, or one that may only be read: refused, and everything goes on afterwards."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import suppress
from random import Random

import pytest

from tests.crash.place import Home, NotStarted, Place, seed_of
from tests.disk_faults import EVERY, GROWING, Action, Kind
from tests.gallery_life import GalleryLife, Unanswered

ROUNDS = 6


def live_on(home: Home, life: GalleryLife, steps: int) -> int:
    """Go on as if nothing were; return how many steps were refused."""
    refused = 0
    for _ in range(steps):
        try:
            life.step()
            refused += life.refused is not None
        except Unanswered:
            refused += 1
        if life.refused or life.open:
            break  # the model takes one at a time
    return refused


@pytest.mark.parametrize(
    ("error", "kinds"),
    [(errno.ENOSPC, GROWING), (errno.EDQUOT, GROWING), (errno.EROFS, EVERY | Kind.REOPEN)],
)
def test_from_some_call_on_nothing_can_be_written(place: Place, error: int, kinds: Kind) -> None:
    random = Random(seed_of(errno.errorcode[error]))
    home = place.home()
    life = home.life(random)
    refused = 0
    with home.serving(life):
        life.create()
        for _ in range(ROUNDS):
            home.disk.strike(
                Action.FAIL, random.randint(1, 60), error=error, kinds=kinds, lasting=True
            )
            refused += live_on(home, life, 20)
            home.disk.heal()
            life.settle()
    assert refused > ROUNDS // 2
    home.check()


def test_a_server_starts_on_a_disk_that_may_only_be_read(place: Place) -> None:
    """It says what is wrong, or answers what it can; nothing is lost."""
    home = place.home()
    life = home.life(Random(4))
    with home.serving(life):
        life.create()
        for _ in range(4):
            life.enrol()
    home.disk.strike(Action.FAIL, 1, error=errno.EROFS, kinds=EVERY | Kind.REOPEN, lasting=True)
    with pytest.raises(NotStarted, match="Damaged: |InvalidInput: "), home.surviving(life):
        life.check()
    home.disk.heal()
    with home.serving(life):
        life.settle()
    home.check()


def mount(home: Home, options: str) -> None:
    """Mount a small file system in memory, or change the one that is there."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(home.data)],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_real_file_system_fills_up_and_gets_room_again(place: Place) -> None:
    home = place.home()
    home.data.mkdir()
    mount(home, "size=5M")
    try:
        life = home.life(Random(seed_of("tmpfs")))
        with home.serving(life):
            life.create()
            while life.refused is None and life.open is None:
                with suppress(Unanswered):  # stored, but there is no room to show it
                    life.enrol()
            assert len(life.units) > 3
            mount(home, "remount,size=50M")
            life.settle()
            for _ in range(10):
                life.step()
        home.check()
    finally:
        subprocess.run(["umount", str(home.data)], check=True)
