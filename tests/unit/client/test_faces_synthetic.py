"""Synthetic templates: unit length, uniform directions, fresh or repeatable."""

from __future__ import annotations

import numpy as np
import pytest

from underseal_client.faces import synthetic_templates
from underseal_core.errors import InvalidInput


def test_rows_are_unit_vectors_spread_like_the_uniform_distribution() -> None:
    templates = synthetic_templates(4000, 128, seed=7)
    assert templates.shape == (4000, 128) and templates.dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(templates, axis=1), 1.0, atol=1e-12)
    assert np.abs(templates.mean(axis=0)).max() < 5 / np.sqrt(4000 * 128)
    scores = templates[:2000] @ templates[2000:].T
    assert scores.std() == pytest.approx(1 / np.sqrt(128), rel=0.01)


def test_a_seed_repeats_and_no_seed_does_not() -> None:
    np.testing.assert_array_equal(
        synthetic_templates(3, 64, seed=1), synthetic_templates(3, 64, seed=1)
    )
    assert not np.array_equal(synthetic_templates(3, 64), synthetic_templates(3, 64))


def test_none_is_a_number_too() -> None:
    assert synthetic_templates(0, 512).shape == (0, 512)


@pytest.mark.parametrize(("count", "dimension"), [(-1, 128), (5, 1), (5, 0)])
def test_bad_sizes_are_refused(count: int, dimension: int) -> None:
    with pytest.raises(InvalidInput):
        synthetic_templates(count, dimension)
