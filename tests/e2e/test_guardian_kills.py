"""A guardian process killed at any call of an opening, before it or with its answer on the way.

Nothing is answered twice, no share is lost: the same request is answered by others if nothing of it
was answered before, refused for good otherwise, and the guardian takes part again once restarted.
Nobody is refused for tests that a kill cut short.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from tests.auditor_world import Answer, Desk
from tests.guardian_place import Guardians, guardians
from underseal_auditor.api.guardian_process import DATABASE_NAME
from underseal_auditor.connection import GuardianConnection
from underseal_auditor.store.database import Database
from underseal_auditor.store.tested import SoundUnits
from underseal_core.errors import Busy, Conflict, PermissionRefused

T = TypeVar("T")

CALLS = ("commit", "reveal", "take", "reveal_tests", "conclude_tests", "answer", "countersign")
ANSWERED = ("answer", "countersign")
"""Of these the others' answers count, and its own if it is on its disk: nobody gets another."""


class Case(NamedTuple):
    """``active`` guardians open; the ``victim`` is killed at a call, or after it."""

    active: tuple[int, ...]
    victim: int
    call: str
    after: bool


@dataclass
class Assassin:
    """Kills one guardian at one call; disarmed afterwards."""

    made: Guardians
    case: Case
    fired: list[str] = field(default_factory=list)

    def connect(self, point: int) -> GuardianConnection:
        link = self.made.connect(point)
        if point == self.case.victim:
            setattr(link, self.case.call, self._watched(getattr(link, self.case.call)))
        return link

    def _watched(self, call: Callable[..., T]) -> Callable[..., T]:
        def watched(*arguments: Any) -> T:
            self.fired.append(self.case.call)
            if self.case.after:
                call(*arguments)
            self.made.kill(self.case.victim)
            if self.case.after:
                raise Busy("the answer was lost on its way")
            return call(*arguments)

        return watched


def check_killed_everywhere(made: Guardians, cases: list[Case]) -> None:
    everyone = tuple(range(1, len(made.of.shares) + 1))
    seeds = count(100)
    for case in cases:
        assassin, asked = Assassin(made, case), made.ask(next(seeds))
        with (
            made.panel(*case.active, connect=assassin.connect) as few,
            made.office(few) as office,
            pytest.raises(Busy),
        ):
            office.envelope(asked)
        assert assassin.fired == [case.call]
        with made.panel(*everyone) as panel, made.office(panel) as office:
            check_asked_again(office, asked, answered=case.call in ANSWERED)
            made.start(case.victim)
            made.ready(case.victim)
            check_asked_again(office, asked, answered=case.call in ANSWERED)
        with made.panel(*case.active) as few, made.office(few) as office:
            assert office.submit(made.ask(next(seeds))).matches == ()
    for point in everyone:
        made.kill(point)
        with closing(Database(made.root / f"data-{point}" / DATABASE_NAME)) as database:
            assert SoundUnits(database, made.of.bundle.epoch).standings() == []


def check_asked_again(office: Desk, asked: Answer, *, answered: bool) -> None:
    """The others open it if nothing of it was answered; otherwise nobody does, ever."""
    if answered:
        with pytest.raises((Conflict, PermissionRefused)):
            office.envelope(asked)
    else:
        assert office.submit(asked).matches == ()


def every_point(*groups: tuple[tuple[int, ...], int]) -> list[Case]:
    """Before, then after each call, with ``groups``, who open and who is killed, in turn."""
    points = [(call, after) for after in (False, True) for call in CALLS]
    return [
        Case(active, victim, call, after)
        for (call, after), (active, victim) in zip(points, cycle(groups), strict=False)
    ]


TWO_OF_THREE = {
    "every point": every_point(((1, 2), 1), ((2, 3), 3), ((1, 3), 1)),
    "others, before": every_point(((1, 2), 2), ((1, 3), 3), ((2, 3), 2))[: len(CALLS)],
}
THREE_OF_FIVE = {
    "every point": every_point(((1, 4, 5), 4), ((2, 3, 5), 5), ((1, 2, 3), 2)),
    "others, before": every_point(((2, 3, 4), 3), ((1, 2, 5), 1))[: len(CALLS)],
}


@pytest.mark.parametrize("cases", TWO_OF_THREE.values(), ids=TWO_OF_THREE.keys())
def test_two_of_three_each_killed_at_any_point(cases: list[Case], tmp_path: Path) -> None:
    with guardians(tmp_path, 2, 3, "guarded") as made:
        check_killed_everywhere(made, cases)


@pytest.mark.parametrize("cases", THREE_OF_FIVE.values(), ids=THREE_OF_FIVE.keys())
def test_three_of_five_each_killed_at_any_point(cases: list[Case], tmp_path: Path) -> None:
    with guardians(tmp_path, 3, 5, "guarded") as made:
        check_killed_everywhere(made, cases)
