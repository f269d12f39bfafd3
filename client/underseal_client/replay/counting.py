"""False matches among released scores: how many, of whom, and how sure that is.

In the words of ISO/IEC 19795-1: a search of a gallery in which the person is not is *non-mated*;
the share of such searches that release somebody is the false positive identification rate (FPIR).
Searches are counted by people, who are independent of one another; comparisons are not.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CONFIDENCE: Final = 0.95
_SLACK: Final = 1e-9
"""Released scores have two decimals; this is no digit of them."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a share lies with 95 % confidence."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Searched:
    """One person who was searched for, and the released scores, all of them of others.

    ``cut``: the release was full, so there may be more, none of them higher than the lowest.
    ``charged``: the values that the release took of the auditors' budget.
    """

    person: str
    group: str
    scores: tuple[float, ...]
    cut: bool = False
    charged: int = 0

    @property
    def best(self) -> float:
        """The highest score; minus one if nobody was released."""
        return max(self.scores, default=-1.0)

    def at(self, threshold: float) -> int:
        """Return how many were released at a threshold."""
        return sum(score >= threshold - _SLACK for score in self.scores)


@dataclass(frozen=True, slots=True)
class Count:
    """What a threshold does.

    Parameters
    ----------
    searched, people
        People who were searched for, and those of them for whom somebody was released.
    share
        FPIR, ``people / searched``, with its Wilson interval.
    matches
        False matches, all people together; with ``more`` there are more, in full releases.
    """

    threshold: float
    searched: int
    people: int
    share: float
    interval: Interval
    matches: int
    more: bool

    def as_json(self) -> dict[str, object]:
        """Return what ``--json`` prints of it."""
        return asdict(self)


def wilson(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the score interval of a proportion (Wilson, J. Am. Stat. Assoc. 22, 1927).

    Unlike the textbook's it keeps its promise for proportions near 0, where a good threshold is,
    and says something when nothing was seen: 0 of n means up to about ``3.84 / (n + 3.84)``.
    """
    if trials == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = successes / trials, z * z / trials
    centre = share + spread / 2
    width = z * sqrt(share * (1 - share) / trials + spread / trials / 4)
    low = 0.0 if successes == 0 else (centre - width) / (1 + spread)
    high = 1.0 if successes == trials else (centre + width) / (1 + spread)
    return Interval(low, high)


def count(searches: Sequence[Searched], threshold: float) -> Count:
    """Count the false matches at a threshold, not below the one that was asked with."""
    people = sum(search.at(threshold) > 0 for search in searches)
    total = len(searches)
    return Count(
        threshold=threshold,
        searched=total,
        people=people,
        share=people / total if total else 0.0,
        interval=wilson(people, total),
        matches=sum(search.at(threshold) for search in searches),
        more=any(search.cut and min(search.scores) >= threshold - _SLACK for search in searches),
    )


def by_group(searches: Iterable[Searched]) -> dict[str, list[Searched]]:
    """Return the searches of each group that is named, in the order of names."""
    groups = defaultdict(list)
    for search in searches:
        if search.group:
            groups[search.group].append(search)
    return dict(sorted(groups.items()))


def threshold_naming(searches: Sequence[Searched], share: float) -> float | None:
    """Return the highest threshold at which at least this share of people is falsely matched.

    None if even the threshold that was asked with names fewer.
    """
    best = sorted((search.best for search in searches), reverse=True)
    needed = max(1, round(share * len(best)))
    if len(best) < needed or best[needed - 1] < 0:
        return None
    return best[needed - 1]
