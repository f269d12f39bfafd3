"""Reconstructing a template from what searches say about it, up to the quotas.

The oracle is the policy code: noise, rounding, and the default quotas of a subject. It is more
generous than the product: it shows scores below the threshold as long as the quota lasts, so that
a climber who knows nothing has something to climb on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.oracles.seal_evaluation import F64, unit_vectors
from underseal_auditor.policy.budget import budget_rule
from underseal_auditor.policy.quotas import Use, allot
from underseal_auditor.policy.sections import QuotaSection
from underseal_auditor.release import score_text
from underseal_core.scheme.profiles import GUARDED

SUBJECT = b"s" * 16
THRESHOLD = 0.45
"""The model's default."""
DECIMALS = 2
TRIALS = 60


@dataclass
class Oracle:
    """Answers until the quotas of the subject are used up; then every answer is None."""

    target: F64
    rng: np.random.Generator
    quotas: QuotaSection = field(default_factory=QuotaSection)
    used: Use = field(default_factory=Use)

    def score(self, probe: F64) -> float | None:
        """A rounded score, below the threshold as well."""
        allotted = allot([SUBJECT], {SUBJECT: self.used}, self.quotas, weight=1, numeric=True)
        if allotted is None or not allotted.scored[0]:
            return None
        self.used = self.used.plus(allotted.uses[SUBJECT])
        return float(score_text(self._opened(probe), DECIMALS))

    def hit(self, probe: F64, threshold: float) -> bool | None:
        """Yes or no; a client may raise the threshold, and only a hit uses up the quota."""
        allotted = allot([SUBJECT], {SUBJECT: self.used}, self.quotas, weight=1, numeric=False)
        if allotted is None:
            return None
        found = self._opened(probe) >= max(threshold, THRESHOLD)
        if found:
            self.used = self.used.plus(allotted.uses[SUBJECT])
        return found

    def _opened(self, probe: F64) -> float:
        noise = budget_rule(GUARDED, DECIMALS, strict=False, members=1).noise_std
        return float(self.target @ probe + self.rng.normal(0.0, noise))


def unit(vector: F64) -> F64:
    return vector / np.linalg.norm(vector)


Climber = Callable[[Oracle, int, np.random.Generator], F64]


def regression(oracle: Oracle, dimension: int, rng: np.random.Generator) -> F64:
    """Orthogonal probes, and their sum weighted by the scores: the best linear estimate."""
    count = min(dimension, oracle.quotas.scores_per_subject + 1)
    basis = np.linalg.qr(rng.normal(size=(dimension, count)))[0].T
    total = np.zeros(dimension)
    for probe in basis:
        score = oracle.score(probe)
        if score is None:
            break
        total += score * probe
    return unit(total + 1e-9 * basis[0])


def evolution(oracle: Oracle, dimension: int, rng: np.random.Generator) -> F64:
    """(1+1): keep a random step when the score rises."""
    best = unit_vectors(rng, 1, dimension)[0]
    height = oracle.score(best)
    while height is not None:
        trial = unit(best + 0.7 * unit_vectors(rng, 1, dimension)[0])
        score = oracle.score(trial)
        if score is None:
            break
        if score > height:
            best, height = trial, score
    return best


def spsa(oracle: Oracle, dimension: int, rng: np.random.Generator) -> F64:
    """Simultaneous perturbation: two scores for a step along one random direction."""
    best = unit_vectors(rng, 1, dimension)[0]
    while True:
        step = rng.choice([-1.0, 1.0], dimension) / np.sqrt(dimension)
        up, down = oracle.score(unit(best + 0.5 * step)), oracle.score(unit(best - 0.5 * step))
        if up is None or down is None:
            return best
        best = unit(best + 2.0 * (up - down) * step)


def boundary(oracle: Oracle, start: F64, rng: np.random.Generator, answers: int) -> F64:
    """From a probe that is believed to be near, step sideways and keep the sides that hit."""
    basis = np.linalg.qr(np.column_stack([start, rng.normal(size=(len(start), answers))]))[0]
    base = float(np.sign(basis[:, 0] @ start)) * basis[:, 0]
    level = oracle.score(base)
    level = 0.6 if level is None else level
    total = np.zeros(len(start))
    for direction in basis.T[1:]:
        side = oracle.hit(0.8 * base + 0.6 * direction, 0.8 * level)
        if side is None:
            break
        total += (1.0 if side else -1.0) * direction
    size = float(np.linalg.norm(total))
    if size == 0.0:
        return start
    # a sign of a Gaussian is worth sqrt(2/pi) of its size
    spread = np.sqrt(max(0.0, 1.0 - level**2) / len(start)) * np.sqrt(2.0 / np.pi)
    return unit(level * base + spread * total)


def cosines(
    climber: Climber, dimension: int, quotas: QuotaSection, trials: int = TRIALS
) -> tuple[float, float]:
    """Mean and largest cosine to the template over trials."""
    found = []
    for trial in range(trials):
        rng = np.random.default_rng(1000 * dimension + trial)
        target = unit_vectors(rng, 1, dimension)[0]
        oracle = Oracle(target, rng, quotas)
        guess = climber(oracle, dimension, rng)
        assert oracle.used.within(quotas)
        found.append(float(guess @ target))
    return float(np.mean(found)), float(np.max(found))


@pytest.mark.parametrize("dimension", [128, 512])
@pytest.mark.parametrize("climber", [regression, evolution, spsa])
def test_climber_without_a_photo_stays_below_the_threshold(
    climber: Climber, dimension: int
) -> None:
    """Even if every score were shown: 8 of them give a cosine of sqrt(8 / d) at best."""
    mean, largest = cosines(climber, dimension, QuotaSection())
    assert largest < THRESHOLD
    assert mean < 1.1 * np.sqrt(QuotaSection().scores_per_subject / dimension)


@pytest.mark.parametrize("dimension", [128, 512])
def test_hits_do_not_lead_on_from_there(dimension: int) -> None:
    """All scores, then searches around the estimate in the hope of a first hit: 3 per hit."""

    def climb(oracle: Oracle, dimension: int, rng: np.random.Generator) -> F64:
        best = regression(oracle, dimension, rng)
        for _ in range(3 * oracle.quotas.hits_per_subject):
            trial = unit(0.5 * best + unit_vectors(rng, 1, dimension)[0])
            if oracle.hit(trial, THRESHOLD):
                return trial
        return best

    _, largest = cosines(climb, dimension, QuotaSection())
    assert largest < THRESHOLD


@pytest.mark.parametrize("dimension", [128, 512])
def test_without_quotas_the_template_is_found(dimension: int) -> None:
    """What the quotas are for: rounding and noise do not stop anybody."""
    none = QuotaSection(scores_per_subject=1000, hits_per_subject=1000)
    mean, _ = cosines(regression, dimension, none, trials=5)
    assert mean > 0.95


def informed(oracle: Oracle, dimension: int, rng: np.random.Generator) -> F64:
    """A climber with a photo of the person, cosine 0.6, and two searches for every hit."""
    side = unit_vectors(rng, 1, dimension)[0]
    side = unit(side - (side @ oracle.target) * oracle.target)
    start = 0.6 * oracle.target + 0.8 * side
    answers = min(dimension - 1, 2 * oracle.quotas.hits_per_subject)
    return boundary(oracle, start, rng, answers)


@pytest.mark.parametrize(("dimension", "most"), [(128, 0.92), (512, 0.72)])
def test_climber_with_a_photo_gains_no_more_than_documented(dimension: int, most: float) -> None:
    """It matches before it starts; the quotas bound how much nearer it gets."""
    mean, largest = cosines(informed, dimension, QuotaSection())
    assert 0.62 < mean < largest < most
