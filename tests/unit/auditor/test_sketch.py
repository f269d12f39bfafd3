"""Sketches of opened scores, and what quotas allot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.auditor_world import DIMENSION, Vectors, at_cosine, unit
from underseal_auditor.policy.quotas import Use, allot, used
from underseal_auditor.policy.sections import QuotaSection
from underseal_auditor.verify.sketch import MIN_TEMPLATES, NEAR, Sketcher, distance, is_near
from underseal_core.labels import OpeningKey

KEY = OpeningKey.generate()
SKETCHER = Sketcher(KEY)
GALLERY = unit(400, 3)
IDS = [bytes((index >> 8, index & 255)) * 8 for index in range(400)]


def sketch(probe: Vectors, count: int = 400) -> bytes:
    return SKETCHER.sketch(IDS[:count], GALLERY[:count] @ probe)


def share_near(cosine: float) -> float:
    """Of 60 pairs of probes at this cosine, how many are near."""
    pairs = [(probe, at_cosine(probe, cosine, seed)) for seed, probe in enumerate(unit(60, 8))]
    return float(np.mean([is_near(sketch(b), [sketch(a)]) for a, b in pairs]))


def test_small_steps_are_near_and_other_photos_are_not() -> None:
    assert share_near(0.98) == 1.0
    assert share_near(0.95) > 0.9
    assert share_near(0.7) < 0.1
    assert share_near(0.0) == 0.0


def test_sketch_survives_growth_and_one_match() -> None:
    probe = unit(1, 5)[0]
    assert distance(sketch(probe, 300), sketch(probe, 400)) <= 96
    assert distance(sketch(probe, 390), sketch(probe, 400)) <= NEAR
    scores = GALLERY @ probe
    scores[7] = 0.99
    assert distance(SKETCHER.sketch(IDS, scores), sketch(probe)) <= NEAR


def test_order_does_not_matter_and_the_key_does() -> None:
    probe = unit(1, 5)[0]
    again = SKETCHER.sketch(IDS[::-1], (GALLERY @ probe)[::-1].copy())
    assert distance(again, sketch(probe)) <= 2  # sums in another order
    assert Sketcher(KEY).sketch(IDS, GALLERY @ probe) == sketch(probe)
    other = Sketcher(OpeningKey.generate()).sketch(IDS, GALLERY @ probe)
    assert distance(other, sketch(probe)) > NEAR


def test_few_templates_make_no_sketch() -> None:
    assert sketch(unit(1, 5)[0], MIN_TEMPLATES - 1) == b""
    assert len(sketch(unit(1, 5)[0], MIN_TEMPLATES)) == 32
    assert not is_near(b"", [b"", bytes(32)])
    assert GALLERY.shape == (400, DIMENSION)


@given(
    st.lists(st.sampled_from([b"a" * 16, b"b" * 16, b"c" * 16]), max_size=12),
    st.integers(0, 6),
    st.integers(1, 12),
    st.integers(1, 4),
)
def test_allotment_is_what_guardians_allow(
    subjects: list[bytes], scores: int, hits: int, weight: int
) -> None:
    quotas = QuotaSection(scores_per_subject=scores, hits_per_subject=hits)
    before = {b"a" * 16: Use(scores=min(1, scores), hits=1)}
    found = allot(subjects, before, quotas, weight=weight, numeric=True)
    most = max((subjects.count(s) * weight + (s == b"a" * 16) for s in subjects), default=0)
    assert (found is None) == (most > hits)
    if found is not None:
        assert found.uses == used(list(zip(subjects, found.scored, strict=True)), weight)
        for subject, use in found.uses.items():
            assert before.get(subject, Use()).plus(use).within(quotas)


@pytest.mark.parametrize("numeric", [True, False])
def test_scores_are_shown_up_to_the_quota_and_never_without_a_numeric_policy(
    numeric: bool,
) -> None:
    quotas = QuotaSection(scores_per_subject=2, hits_per_subject=9)
    found = allot([b"a" * 16] * 3, {}, quotas, weight=1, numeric=numeric)
    assert found is not None
    assert found.scored == (numeric, numeric, False)
