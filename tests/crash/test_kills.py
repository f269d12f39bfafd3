"""A server is killed at any call that changes a file; what it answered is there afterwards."""

from __future__ import annotations

import signal
from random import Random

from tests.crash.place import KILLED, Home, NotStarted, Place, points, seed_of
from tests.disk_faults import Action
from tests.gallery_life import GalleryLife, Unanswered

KILLS = [Action.KILL_BEFORE, Action.KILL_AFTER, Action.KILL_AMID]
LIFETIME = 25
"""Kills that one gallery lives through."""
FURTHEST = 150
"""Calls until a kill, at most: about ten changes."""


def live_until_killed(home: Home, life: GalleryLife, random: Random) -> None:
    """Let the server start and work until it dies, at a random call."""
    action, nth = random.choice(KILLS), random.randint(1, FURTHEST)
    early = random.random() < 0.2
    if early:
        home.disk.strike(action, random.randint(1, 40))
    try:
        with home.surviving(life):
            if not early:
                home.disk.strike(action, nth)
            while True:
                if random.random() < 0.03:
                    home.rotate()
                if early and random.random() < 0.1:
                    home.processes.end(signal.SIGKILL)
                    return
                life.step()
    except Unanswered:
        assert home.disk.struck, home.processes.log.read_text()
        assert home.processes.ended() == KILLED
    except NotStarted:
        assert home.disk.struck, home.processes.log.read_text()
    finally:
        home.disk.heal()


def recover(home: Home, life: GalleryLife) -> None:
    """Start again, find everything that was answered, and leave a folder that is sound."""
    with home.surviving(life):
        life.settle()
    home.processes.end(signal.SIGKILL)
    home.check()


def test_kills_at_random_points(place: Place) -> None:
    random = Random(seed_of("kills"))
    for number in range(points(24)):
        if number % LIFETIME == 0:
            home = place.home()
            life = home.life(random)
            with home.serving(life):
                life.create()
        live_until_killed(home, life, random)
        recover(home, life)
