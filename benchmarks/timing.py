"""Times of something that is done several times."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Median of some figures, with the lowest and the highest."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Summarise figures, rounded to a thousandth."""
    found = (statistics.median(values), min(values), max(values))
    return Spread(*(round(value, 3) for value in found))


def best(action: Callable[[], object], repeat: int) -> float:
    """Shortest of several runs, in seconds: what the machine does when nothing disturbs it.

    Fewer runs when they take long.
    """
    times: list[float] = []
    while len(times) < repeat and sum(times) < PATIENCE_SECONDS:
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def best_of_each(actions: Sequence[Callable[[], object]], repeat: int) -> list[float]:
    """Shortest run of each action, in seconds; they take turns, so that all meet the same load."""
    found = [best(action, 1) for action in actions]
    rounds = min(repeat, int(PATIENCE_SECONDS * len(actions) / sum(found)))
    for _ in range(1, rounds):
        again = [best(action, 1) for action in actions]
        found = [min(pair) for pair in zip(found, again, strict=True)]
    return found
