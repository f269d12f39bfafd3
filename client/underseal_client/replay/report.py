"""What a replay found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from underseal_client.replay.counting import by_group, count, threshold_naming

if TYPE_CHECKING:
    from collections.abc import Mapping

    from underseal_client.replay.agreement import Agreement
    from underseal_client.replay.counting import Count, Searched
    from underseal_client.replay.probes import LeftOut

PEOPLE_2018: Final = 535
NAMED_2018: Final = 28
GALLERY_2018: Final = 25_000
"""The test of 2018: so many members of Congress, of whom so many were falsely matched, in a gallery
of so many (ACLU, 26 July 2018)."""
_STEP: Final = 0.05


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Cosines.

    Parameters
    ----------
    default
        What a user of the model gets who sets nothing: the publisher's own.
    policy
        What auditors set for a gallery of this size.
    """

    default: float
    policy: float


PUBLISHED: Final[Mapping[str, Thresholds]] = {"zoo-sface": Thresholds(0.363, 0.55)}
"""By model id. 0.363 is OpenCV's for SFace, in its samples and its model zoo."""


@dataclass(slots=True)
class ReplayReport:
    """Everything that was measured.

    Parameters
    ----------
    asked
        The threshold of the searches; nothing below it is known.
    synthetic
        Templates in the gallery.
    shrinkage
        Of the gallery's covariance, see ``population.py``.
    seconds
        By phase, in order.
    """

    model: str
    profile: str
    synthetic: int
    thresholds: Thresholds
    asked: float
    shrinkage: float
    agreement: Agreement
    searches: list[Searched] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    log_entries: int = 0

    def count(self, threshold: float) -> Count | None:
        """Count at a threshold; None below the one of the searches."""
        return count(self.searches, threshold) if threshold >= self.asked else None

    @property
    def values_charged(self) -> int:
        """What the searches took of the auditors' budget."""
        return sum(search.charged for search in self.searches)

    def groups(self, threshold: float) -> dict[str, Count]:
        """Count at a threshold, by group."""
        groups = by_group(self.searches)
        return {name: count(members, threshold) for name, members in groups.items()}

    @property
    def as_in_2018(self) -> Count | None:
        """The highest threshold that names as large a share of people as in 2018."""
        threshold = threshold_naming(self.searches, NAMED_2018 / PEOPLE_2018)
        return None if threshold is None else self.count(threshold)

    @property
    def rows(self) -> list[tuple[str, float, Count | None]]:
        """What each threshold is, and what it does, from the lowest threshold on."""
        rows = [
            ("model's default", self.thresholds.default, self.count(self.thresholds.default)),
            ("policy", self.thresholds.policy, self.count(self.thresholds.policy)),
        ]
        if (like := self.as_in_2018) is not None:
            rows.append(("as in 2018", like.threshold, like))
        named = {round(threshold, 4) for _, threshold, _ in rows}
        for number in range(1, round(1 / _STEP)):
            threshold = round(number * _STEP, 4)
            if self.asked < threshold <= self._highest and threshold not in named:
                rows.append(("", threshold, self.count(threshold)))
        return sorted(rows, key=lambda row: row[1])

    @property
    def _highest(self) -> float:
        best = max((search.best for search in self.searches), default=0.0)
        return max(best, self.thresholds.policy)

    def as_json(self) -> dict[str, object]:
        """Return what ``underseal replay --json`` prints."""
        asked = ("default", self.thresholds.default), ("policy", self.thresholds.policy)
        like = self.as_in_2018
        return {
            "model": self.model,
            "profile": self.profile,
            "people": len(self.searches),
            "gallery": self.synthetic,
            "comparisons": len(self.searches) * self.synthetic,
            "thresholds": {
                name: None if (found := self.count(threshold)) is None else self._row(found)
                for name, threshold in asked
            },
            "as_many_as_in_2018": None if like is None else like.as_json(),
            "curve": [
                {"threshold": threshold, "people": people} for threshold, people in self.curve
            ],
            "population": {"shrinkage": round(self.shrinkage, 4), **self.agreement.as_json()},
            "left_out": [asdict(photo) for photo in self.left_out],
            "values_charged": self.values_charged,
            "log_entries": self.log_entries,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }

    def _row(self, found: Count) -> dict[str, object]:
        groups = self.groups(found.threshold)
        return {
            **found.as_json(),
            "groups": {name: counted.as_json() for name, counted in groups.items()},
        }

    @property
    def curve(self) -> list[tuple[float, int]]:
        """People falsely matched at every hundredth, from the searches' threshold on."""
        first, last = round(self.asked * 100 + 0.4999), round(self._highest * 100) + 2
        return [
            (step / 100, sum(search.at(step / 100) > 0 for search in self.searches))
            for step in range(first, min(last, 99) + 1)
        ]
