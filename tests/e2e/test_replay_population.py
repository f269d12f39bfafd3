"""The gallery of the replay is made of nobody: its scores are those of real faces all the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tests.face_fixtures import PortraitSet
from underseal_client.replay.agreement import LEVELS, agreement
from underseal_client.replay.population import Population, fit_population

SEARCHED = 535
ALARM = 0.4
"""A threshold that some of 534 others reach for about every third person."""
Real = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def real(portrait_set: PortraitSet) -> Real:
    return portrait_set.templates[portrait_set.gallery][:SEARCHED]


@pytest.fixture(scope="module")
def population(real: Real) -> Population:
    return fit_population(real, np.random.default_rng(1))


def test_impostor_scores_agree_up_to_one_pair_in_ten_thousand(
    real: Real, population: Population
) -> None:
    """Within what other people of the same kind would change: three deviations of a bootstrap."""
    compared = agreement(real, population.draw(5000, np.random.default_rng(2)))
    assert [quantile.level for quantile in compared.quantiles] == list(LEVELS)
    deviations = deviations_of_quantiles(real)
    assert deviations[-1] < 0.02
    for quantile, deviation in zip(compared.quantiles, deviations, strict=True):
        assert abs(quantile.real - quantile.synthetic) < 3 * deviation + 0.003, quantile
    assert compared.distance < 0.03


def deviations_of_quantiles(real: Real, draws: int = 30) -> Real:
    """Standard deviation of each quantile of the scores when other people are drawn instead."""
    scores = real @ real.T
    generator = np.random.default_rng(3)
    found = []
    for _ in range(draws):
        chosen = generator.integers(len(real), size=len(real))
        pairs = chosen[:, None] < chosen[None, :]  # nobody with himself, no pair twice
        found.append(np.quantile(scores[np.ix_(chosen, chosen)][pairs], LEVELS))
    return np.asarray(np.std(found, axis=0))


def test_as_many_people_are_falsely_matched_as_among_real_ones(
    real: Real, population: Population
) -> None:
    """The share of people for whom one of as many others reaches a threshold."""
    scores = real @ real.T
    np.fill_diagonal(scores, -1.0)
    expected = (scores.max(axis=1) >= ALARM).mean()
    generator = np.random.default_rng(4)
    found = [
        ((real @ population.draw(len(real) - 1, generator).T).max(axis=1) >= ALARM).mean()
        for _ in range(5)
    ]
    assert 0.2 < expected < 0.4
    assert abs(np.mean(found) - expected) < 0.06
