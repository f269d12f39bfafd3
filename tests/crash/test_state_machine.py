"""Any order of all that may happen to a gallery, and kills amid any of it, beside a model.

Hypothesis chooses the order. The server is killed at the n-th call that changes a file from the
time it is ordered, whatever runs then: a change, a search, a checkpoint, a removal by itself, the
way to new keys. After every step the list of templates, a search and some labels are compared.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from random import Random

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.crash.place import KILLED, Place, labs, points
from tests.crash.test_kills import KILLS
from tests.gallery_life import Unanswered
from tests.long_life import LongLife

EXAMPLES = points(5, 100)
STEPS = 40
FURTHEST = 60
"""Calls until a kill, at most."""
CHANGES = {
    LongLife.enrol: 4.0,
    LongLife.enrol_again: 1.0,
    LongLife.remove_some: 4.0,
    LongLife.remove_unit: 0.5,
    LongLife.remove_subject: 0.5,
    LongLife.relabel: 3.0,
    LongLife.erase: 4.0,
    LongLife.expire: 0.5,
}
OTHERS = {"kill_soon": 5.0, "end_and_start": 1.0, "add_key_epoch": 1.0}
"""What may happen, with weights."""


class Machine(RuleBasedStateMachine):
    """One gallery and its server."""

    place: Place

    def __init__(self) -> None:
        super().__init__()
        self.home = self.place.home()
        self.life = self.home.life(Random(0))
        self.serving = ExitStack()
        self.epoch = self.steps = 0
        self.start()
        self.life.create()
        self.life.enrol()

    def start(self) -> None:
        self.serving.enter_context(self.home.surviving(self.life))

    def end(self, number: int) -> None:
        self.serving.close()
        self.home.processes.end(number)

    def attempt(self, action: Callable[[], None]) -> None:
        """Do it, and start again if the server was killed meanwhile.

        Maybe by an order before the last, as it began something in the background.
        """
        try:
            action()
        except Unanswered:
            self.recover()

    def recover(self) -> None:
        self.serving.close()
        assert self.home.processes.ended() == KILLED, self.home.processes.log.read_text()
        self.home.disk.heal()
        self.start()
        self.life.settle()

    @rule(seed=st.integers(0, 2**64))
    def step(self, seed: int) -> None:
        """One thing at random: hypothesis would take the same rules over and over."""
        self.steps += 1  # of the same seeds, which hypothesis likes, too
        random = Random(f"{seed} {self.steps}")
        self.life.reseed(random.getrandbits(64))
        actions = [partial(self.change, change) for change in CHANGES]
        actions += [partial(getattr(self, name), random) for name in OTHERS]
        (action,) = random.choices(actions, [*CHANGES.values(), *OTHERS.values()])
        action()

    def change(self, change: Callable[[LongLife], None]) -> None:
        """Nothing is erased on the way to other keys."""
        if change is not LongLife.erase or self.life.lab is labs()[self.epoch]:
            self.attempt(lambda: self.life.make(change))

    def kill_soon(self, random: Random) -> None:
        self.home.disk.strike(random.choice(KILLS), random.randint(1, FURTHEST))

    def end_and_start(self, _: Random) -> None:
        self.home.disk.heal()
        self.end(signal.SIGTERM)
        self.start()

    def add_key_epoch(self, _: Random) -> None:
        self.epoch += self.home.rotate()

    @invariant()
    def all_is_as_it_was_answered(self) -> None:
        self.attempt(self.life.check)
        self.attempt(self.life.check_labels)

    def teardown(self) -> None:
        self.home.disk.heal()
        if self.home.processes.runs:
            self.end(signal.SIGTERM)
            self.home.check()


def test_any_order_of_changes_and_kills(place: Place) -> None:
    class Here(Machine):
        pass

    Here.place = place
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
