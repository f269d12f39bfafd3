"""Plausibility of opened numbers, each rule by itself and at its limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.face_fixtures import PortraitSet
from underseal_auditor.policy.document import default_max_spread
from underseal_auditor.verify.numbers import (
    MIN_FOR_SPREAD,
    Bounds,
    Real,
    charged,
    check_canaries,
    check_norm,
    check_scores,
)

BOUNDS = Bounds(threshold=0.6, band=0.0136, max_positives=2, max_near=1, max_spread=0.124)


@pytest.mark.parametrize(
    ("squared", "rule"),
    [
        (1.0, None),
        (0.98, None),
        (1.02, None),
        (0.9799, "norm"),
        (1.0201, "norm"),
        (float("nan"), "norm"),
    ],
)
def test_norm(squared: float, rule: str | None) -> None:
    assert check_norm(squared) == rule


def judged(live: Real, **bounds: float) -> str | None:
    return check_scores(live, live, replace(BOUNDS, **bounds))  # type: ignore[arg-type]  # by name


def test_scores_outside_the_range() -> None:
    assert judged(np.array([1.05, -1.05])) is None
    for value in (1.051, -1.051, np.inf, -np.inf, np.nan):
        assert judged(np.array([0.0, value])) == "range"


def test_range_holds_for_scores_that_were_not_asked_for() -> None:
    assert check_scores(np.array([0.0, 1.2]), np.array([0.0]), BOUNDS) == "range"


def test_positives_and_near_misses() -> None:
    assert judged(np.array([0.6, 0.9])) is None
    assert judged(np.array([0.6, 0.9, 1.0])) == "positives"
    assert judged(np.array([0.5865])) is None
    assert judged(np.array([0.5865, 0.5999])) == "near"
    assert judged(np.array([0.5863, 0.5999])) is None


def test_spread_needs_enough_scores() -> None:
    wide = np.resize([0.5, -0.5], MIN_FOR_SPREAD)
    assert judged(wide) == "spread"
    assert judged(wide[1:]) is None
    narrow = np.resize([0.12, -0.12], MIN_FOR_SPREAD)
    assert judged(narrow) is None
    assert judged(np.append(narrow, [0.9, 0.9])) is None


def test_mean_of_impostors_is_near_zero() -> None:
    assert judged(np.full(MIN_FOR_SPREAD, 0.31)) == "mean"
    assert judged(np.full(MIN_FOR_SPREAD, -0.31)) == "mean"
    assert judged(np.full(MIN_FOR_SPREAD, 0.29)) is None


def test_charge_counts_what_depends_on_the_noise() -> None:
    scores = np.array([0.0, 0.5863, 0.5865, 0.61, 0.9])
    assert charged(scores, 0.6, 0.0136) == 3
    assert charged(np.empty(0), 0.6, 0.0136) == 0


def test_real_faces_are_plausible(portrait_set: PortraitSet) -> None:
    """No honest probe may be refused: the refusal would not even say why."""
    scores = portrait_set.templates @ portrait_set.templates.T
    bounds = Bounds(0.45, 0.0136, 10, 3, default_max_spread(128))
    for index in range(len(scores)):
        others = np.delete(scores[index], index)
        assert check_scores(others, others, bounds) is None


def test_canaries_hold_noise_only() -> None:
    rng = np.random.default_rng(5)
    for size in (64, 128, 1024):
        for _ in range(200):
            assert check_canaries(rng.normal(0.0, 0.001, size), 0.001) is None
    one = np.zeros(64)
    one[3] = -0.0081
    assert check_canaries(one, 0.001) == "canary"
    one[3] = 0.0079
    assert check_canaries(one, 0.001) is None


@pytest.mark.parametrize(("size", "amplitude"), [(64, 1.8), (128, 1.4), (1024, 0.8)])
def test_a_multiple_of_the_key_shows_in_the_canaries(size: int, amplitude: float) -> None:
    """Ternary, as the key is, and no single value far out: the mean square tells."""
    rng = np.random.default_rng(6)
    hidden = amplitude * rng.integers(-1, 2, (100, size))
    rules = [check_canaries(v + rng.normal(0.0, 1.0, size), 1.0) for v in hidden]
    assert rules.count("canaries") > 50
