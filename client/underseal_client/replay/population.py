"""Templates of people who do not exist, distributed like those of people who do.

Templates of real faces crowd into a part of the sphere, and false matches live in the upper tail of
what that does to their scores. So the distribution is fitted to real templates: a Gaussian with
their mean and their covariance, projected to the sphere, the covariance shrunk towards a round one

    C(s) = (1 - s) C + s (tr C / d) I          (Ledoit and Wolf, J. Multivariate Analysis 88, 2004)

A covariance estimated from few people is too far from round, and along just these people. The
people are the probes as well, which would exaggerate their scores; crowds among real people make
heavier tails than any Gaussian has, which does the opposite. One number, ``s``, is left to set (it
may be negative: away from round), and it is set by what matters: the score that one pair in two
thousand of real people exceeds (with few people: one in so many that 20 pairs exceed it) is
exceeded by as many pairs of a real and a synthetic person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from underseal_core.errors import InvalidInput

Real = npt.NDArray[np.float64]

MIN_PEOPLE: Final = 3
TAIL: Final = 5e-4
"""Share of pairs in the tail that is made to agree."""
_PAIRS_IN_TAIL: Final = 20
_SAMPLE: Final = 4000
_STEPS: Final = 12
"""Halvings of the interval of ``s``: to 0.0002, far below what the sample decides."""


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """A distribution of templates.

    Parameters
    ----------
    mean
        (d,) float64, of the real templates.
    axes
        (d, d) float64, orthonormal columns: the covariance's.
    deviations
        (d,) float64, along these axes, shrunk.
    shrinkage
        ``s`` above, -1 to 1.
    """

    mean: Real
    axes: Real
    deviations: Real
    shrinkage: float

    def draw(self, count: int, generator: np.random.Generator) -> Real:
        """Return unit vectors, (count, d) float64."""
        return self.placed(generator.standard_normal((count, len(self.mean))))

    def placed(self, steps: Real) -> Real:
        """Return the unit vectors that standard normal variates (n, d) stand for."""
        vectors: Real = self.mean + (steps * self.deviations) @ self.axes.T
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def impostor_scores(templates: Real) -> Real:
    """Return the cosines of all pairs of different people.

    Parameters
    ----------
    templates
        (n, d) unit rows, one for each person.

    Returns
    -------
    ndarray
        (n (n - 1) / 2,) float64.
    """
    scores: Real = (templates @ templates.T)[np.triu_indices(len(templates), 1)]
    return scores


def fit_population(templates: Real, generator: np.random.Generator) -> Population:
    """Fit the distribution of the module's docstring.

    Parameters
    ----------
    templates
        (n, d) float64 unit rows, one for each person.
    generator
        No cryptographic one is needed: what is drawn is public filler, never keys or noise.

    Raises
    ------
    InvalidInput
        Fewer than three people.
    """
    people, dimension = templates.shape
    if people < MIN_PEOPLE:
        raise InvalidInput(
            f"faces of {people} people say nothing about the faces of others",
            hint=f"at least {MIN_PEOPLE} are needed, and some hundreds for a tail worth looking at",
        )
    mean: Real = templates.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(templates, rowvar=False))
    steps = generator.standard_normal((min(_SAMPLE, 8 * people * people), dimension))
    level = tail_level(people)
    wanted = float(np.quantile(impostor_scores(templates), level))
    low, high = -1.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        tried = Population(mean, axes, _shrunk(variances, middle), middle)
        reached = float(np.quantile(templates @ tried.placed(steps).T, level))
        low, high = (middle, high) if reached > wanted else (low, middle)
    return Population(mean, axes, _shrunk(variances, high), high)


def _shrunk(variances: Real, share: float) -> Real:
    mixed = (1.0 - share) * variances + share * variances.mean()
    deviations: Real = np.sqrt(np.clip(mixed, 0.0, None))
    return deviations


def tail_level(people: int) -> float:
    """Return the quantile of real scores that is made to agree: at least the median."""
    pairs = people * (people - 1) / 2
    return max(0.5, 1.0 - max(TAIL, _PAIRS_IN_TAIL / pairs))
