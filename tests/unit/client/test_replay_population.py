"""Synthetic people have the impostor scores of the real ones that they are modelled on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from underseal_client.faces import synthetic_templates
from underseal_client.replay.agreement import agreement
from underseal_client.replay.population import (
    MIN_PEOPLE,
    Population,
    fit_population,
    impostor_scores,
    tail_level,
)
from underseal_core.errors import InvalidInput

PEOPLE = 400
DIMENSION = 64
Real = npt.NDArray[np.float64]


def crowd(people: int, *, seed: int) -> Real:
    """Templates that are neither round nor Gaussian: three crowds beside a common centre."""
    generator = np.random.default_rng(seed)
    scales = np.arange(1, DIMENSION + 1) ** -0.3
    centres = generator.standard_normal((3, DIMENSION)) * scales * 0.5
    centres[:, 0] += 1.0
    chosen = centres[generator.integers(3, size=people)]
    vectors = chosen + generator.standard_normal((people, DIMENSION)) * scales
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def real() -> Real:
    return crowd(PEOPLE, seed=5)


def test_drawn_people_are_unit_vectors_and_repeatable() -> None:
    real = crowd(30, seed=5)
    population = fit_population(real, np.random.default_rng(1))
    drawn = population.draw(50, np.random.default_rng(2))
    assert drawn.shape == (50, DIMENSION)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1.0, atol=1e-12)
    again = fit_population(real, np.random.default_rng(1)).draw(50, np.random.default_rng(2))
    np.testing.assert_array_equal(drawn, again)


def test_scores_against_drawn_people_agree_with_real_ones_up_to_the_tail(real: Real) -> None:
    """Two-sample: the distributions' distance, and quantiles up to one pair in a thousand."""
    population = fit_population(real, np.random.default_rng(1))
    assert -1.0 < population.shrinkage < 1.0
    compared = agreement(real, population.draw(5000, np.random.default_rng(2)))
    assert compared.pairs == PEOPLE * (PEOPLE - 1) // 2
    assert compared.distance < 0.05
    assert [quantile.level for quantile in compared.quantiles] == [0.01, 0.5, 0.9, 0.99, 0.999]
    spread = impostor_scores(real).std()
    for quantile in compared.quantiles:
        assert abs(quantile.real - quantile.synthetic) < 0.15 * spread, quantile
    for tail in compared.quantiles[-2:]:
        assert abs(tail.real - tail.synthetic) < 0.05 * spread, tail


def test_people_spread_evenly_over_the_sphere_do_not_agree(real: Real) -> None:
    """What the demo enrols would make the test of 2018 look harmless."""
    compared = agreement(real, synthetic_templates(5000, DIMENSION, seed=3))
    assert compared.distance > 0.2
    assert compared.quantiles[-1].synthetic < compared.quantiles[-1].real - 0.1


def test_agreement_sees_a_tail_that_is_too_light(real: Real) -> None:
    """Mean and spread along the axes may be right in sum, and false matches still be missing."""
    fitted = fit_population(real, np.random.default_rng(1))
    round_one = np.full(DIMENSION, np.sqrt(np.mean(fitted.deviations**2)))
    light = Population(fitted.mean, fitted.axes, round_one, 1.0)
    compared = agreement(real, light.draw(5000, np.random.default_rng(2)))
    tail = compared.quantiles[-1]
    assert tail.synthetic < tail.real - 0.2 * impostor_scores(real).std()


def test_few_people_are_enough_to_draw_others_and_fewer_are_refused() -> None:
    few = crowd(4, seed=6)
    drawn = fit_population(few, np.random.default_rng(1)).draw(100, np.random.default_rng(2))
    assert np.isfinite(drawn).all()
    with pytest.raises(InvalidInput, match="of 2 people"):
        fit_population(few[: MIN_PEOPLE - 1], np.random.default_rng(1))


@pytest.mark.parametrize(
    ("people", "level"), [(3, 0.5), (60, 1 - 20 / 1770), (535, 0.9995), (5000, 0.9995)]
)
def test_the_tail_holds_twenty_pairs_or_one_in_two_thousand(people: int, level: float) -> None:
    assert tail_level(people) == pytest.approx(level)
