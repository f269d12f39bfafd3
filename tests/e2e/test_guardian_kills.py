"""A guardian process killed at any call of an opening, before it or with its answer on the way.

Nothing is answered twice, no share is lost: the same request is answered by others if nothing of it
was answered before, refused for good otherwise, and the guardian takes part again once restarted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.auditor_world import Answer, Desk
from tests.guardian_place import Guardians, guardians
from underseal_auditor.connection import GuardianConnection
from underseal_core.errors import Busy, Conflict, PermissionRefused

T = TypeVar("T")

BEFORE = ("commit", "reveal", "take", "answer", "countersign")
AFTER = ("answer", "countersign")
"""Its answer is made, and on its disk; nobody gets it."""


@dataclass
class Assassin:
    """Kills one guardian at one call; disarmed afterwards."""

    made: Guardians
    victim: int = 0
    step: str = ""
    after: bool = False
    fired: list[str] = field(default_factory=list)

    def connect(self, point: int) -> GuardianConnection:
        link = self.made.connect(point)
        for name in ("commit", "reveal", "take", "answer", "countersign"):
            setattr(link, name, self._watched(point, name, getattr(link, name)))
        return link

    def _watched(self, point: int, name: str, call: Callable[..., T]) -> Callable[..., T]:
        def watched(*arguments: Any) -> T:
            if (point, name) != (self.victim, self.step):
                return call(*arguments)
            self.victim = 0
            self.fired.append(name)
            if self.after:
                call(*arguments)
                self.made.kill(point)
                raise Busy("the answer was lost on its way")
            self.made.kill(point)
            return call(*arguments)

        return watched


def check_killed_everywhere(made: Guardians, cases: list[tuple[int, str, bool]]) -> None:
    everyone = range(1, len(made.of.shares) + 1)
    assassin = Assassin(made)
    seeds = count(100)
    with made.panel(*everyone, connect=assassin.connect) as panel:
        for victim, step, after in cases:
            assassin.victim, assassin.step, assassin.after = victim, step, after
            asked = made.ask(next(seeds))
            with made.office(panel) as office:
                with pytest.raises(Busy):
                    office.envelope(asked)
                assert assassin.fired.pop() == step
                check_asked_again(office, asked, answered=step in AFTER)
                made.start(victim)
                made.ready(victim)
                check_asked_again(office, asked, answered=step in AFTER)
            with made.office(panel) as office:
                assert office.submit(made.ask(next(seeds))).matches == ()


def check_asked_again(office: Desk, asked: Answer, *, answered: bool) -> None:
    """The others open it if nothing of it was answered; otherwise nobody does, ever."""
    if answered:
        with pytest.raises((Conflict, PermissionRefused)):
            office.envelope(asked)
    else:
        assert office.submit(asked).matches == ()


def every_point(*victims: int) -> list[tuple[int, str, bool]]:
    """Before each call of each victim, and after those of which the answer counts."""
    before = [(victim, step, False) for step in BEFORE for victim in victims]
    return before + [(victim, step, True) for step in AFTER for victim in victims]


def test_two_of_three_each_killed_at_any_point(tmp_path: Path) -> None:
    with guardians(tmp_path, 2, 3, "guarded") as made:
        check_killed_everywhere(made, every_point(1, 2))


def test_three_of_five_each_killed_at_any_point(tmp_path: Path) -> None:
    with guardians(tmp_path, 3, 5, "guarded") as made:
        check_killed_everywhere(made, every_point(1, 2, 3))
