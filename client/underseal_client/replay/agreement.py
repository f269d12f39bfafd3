"""Do the scores of synthetic people look like those of real ones? The upper tail decides."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from underseal_client.replay.population import impostor_scores

if TYPE_CHECKING:
    from underseal_client.replay.population import Real

LEVELS: Final = (0.01, 0.5, 0.9, 0.99, 0.999, 0.9999)
PAIRS_BEYOND: Final = 10
"""A quantile that fewer pairs exceed is not reported."""
SAMPLE: Final = 5000


@dataclass(frozen=True, slots=True)
class Quantile:
    """What a share ``level`` of the scores stays below, among real and synthetic people."""

    level: float
    real: float
    synthetic: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two sets of impostor scores compare.

    Parameters
    ----------
    pairs
        Of real people.
    distance
        Two-sample Kolmogorov-Smirnov statistic, 0 to 1. It looks at the middle more than at the
        tail, and the pairs are not independent: no test is made of it.
    """

    pairs: int
    distance: float
    quantiles: tuple[Quantile, ...]

    def as_json(self) -> dict[str, object]:
        """Return what ``--json`` prints of it."""
        return {
            "pairs": self.pairs,
            "distance": round(self.distance, 4),
            "quantiles": [asdict(quantile) for quantile in self.quantiles],
        }


def agreement(templates: Real, synthetic: Real) -> Agreement:
    """Compare real people's scores among themselves with those against synthetic people.

    Parameters
    ----------
    templates
        (n, d) unit rows, one for each real person.
    synthetic
        (m, d) unit rows; at most the first 5,000 are looked at.
    """
    real = np.sort(impostor_scores(templates))
    drawn = np.sort((templates @ synthetic[:SAMPLE].T).ravel())
    fewer = min(real.size, drawn.size)
    levels = [level for level in LEVELS if fewer * min(level, 1 - level) >= PAIRS_BEYOND]
    quantiles = tuple(
        Quantile(level, round(float(a), 4), round(float(b), 4))
        for level, a, b in zip(
            levels, np.quantile(real, levels), np.quantile(drawn, levels), strict=True
        )
    )
    return Agreement(real.size, _distance(real, drawn), quantiles)


def _distance(first: Real, second: Real) -> float:
    """Return the largest difference of the empirical distribution functions of sorted samples."""
    steps = np.concatenate([first, second])
    below = [
        np.searchsorted(scores, steps, side="right") / scores.size for scores in (first, second)
    ]
    return float(np.abs(below[0] - below[1]).max())
