"""What opened numbers must look like. Pure.

An honest probe is one unit vector, honest scores are cosines. What fails these checks releases
nothing. The caller shows none of it: every refusal here looks the same from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.float64]

NORM_MIN: Final = 0.98
NORM_MAX: Final = 1.02

SCORE_LIMIT: Final = 1.05
MEAN_LIMIT: Final = 0.3
"""Faces resemble each other: on real portraits a probe's mean score is between 0.04 and 0.18."""

CANARY_LIMIT: Final = 8.0
"""Largest value in an empty slot, in standard deviations: 1e-15 of Gaussian values exceed it."""
_ONE_IN_A_BILLION: Final = 6.0
"""That quantile of the standard normal distribution."""

MIN_FOR_SPREAD: Final = 64
"""Fewer scores than this say too little about their mean and spread."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What plausibility takes from the policy.

    ``max_spread``: standard deviation of the scores below ``threshold``. ``max_positives`` and
    ``max_near``: how many values may reach it, and may lie within ``band`` below it.
    """

    threshold: float
    band: float
    max_positives: int
    max_near: int
    max_spread: float


def check_norm(squared: float) -> str | None:
    """Return the broken rule for an opened squared norm of a probe, which is one template."""
    return None if NORM_MIN <= squared <= NORM_MAX else "norm"


def check_canaries(values: Real, deviation: float) -> str | None:
    """Return the broken rule for the opened canaries of one block: they hold noise only.

    A multiple ``K s`` of the key, hidden in a template, shows in all coefficients alike.

    Parameters
    ----------
    values
        What is in the slots that no template may take.
    deviation
        Standard deviation of noise and error together.

    Notes
    -----
    ``sum (v / deviation)^2`` of ``n`` values has a chi-square distribution; by Wilson and
    Hilferty (PNAS 17, 1931) its quantile is about ``n (1 - 2/(9n) + z sqrt(2/(9n)))^3``, here
    with ``z = 6``: honest canaries fail once in 10^9 blocks.
    """
    if _largest(values) >= CANARY_LIMIT * deviation:
        return "canary"
    spread = 2.0 / (9.0 * values.size)
    limit = (1.0 - spread + _ONE_IN_A_BILLION * sqrt(spread)) ** 3
    return "canaries" if float(np.mean(values**2)) > limit * deviation**2 else None


def check_scores(live: Real, values: Real, bounds: Bounds) -> str | None:
    """Return the broken rule for all opened scores of a search.

    Parameters
    ----------
    live
        Scores of all live slots of the opened blocks.
    values
        What the answer may show of those that the request asks about: see ``fusion.py``.
    """
    if _largest(live) > SCORE_LIMIT or not bool(np.isfinite(live).all()):
        return "range"
    below = live[live < bounds.threshold]
    if below.size >= MIN_FOR_SPREAD and float(below.std()) > bounds.max_spread:
        return "spread"
    if below.size >= MIN_FOR_SPREAD and abs(float(below.mean())) > MEAN_LIMIT:
        return "mean"
    if int(np.count_nonzero(values >= bounds.threshold)) > bounds.max_positives:
        return "positives"
    near = (values >= bounds.threshold - bounds.band) & (values < bounds.threshold)
    if int(np.count_nonzero(near)) > bounds.max_near:
        return "near"
    return None


def charged(values: Real, threshold: float, band: float) -> int:
    """Count the values that an answer makes visible.

    Each one at or above the threshold, and each within ``band`` (16 standard deviations of the
    noise) below it: all others would give the same answer with any noise.
    """
    return int(np.count_nonzero(values >= threshold - band))


def _largest(values: Real) -> float:
    return float(np.abs(values).max(initial=0.0))
