from __future__ import annotations

from math import log2

import pytest

from underseal_auditor.keys.flooding import (
    SIGMA_THREE_DECIMALS,
    SIGMA_TWO_DECIMALS,
    charged_answers,
    error_bound,
    leaked_bits,
    leaked_bits_each,
    log2_values,
    sigma_for,
)
from underseal_core.errors import InvalidInput


def test_values_and_sigma_are_inverse() -> None:
    for values in (1.0, 2.0**17, 1e9):
        for bound in (2.0**-37.6, 2.0**-43):
            sigma = sigma_for(values, bound, 40)
            assert log2_values(sigma, bound, 40) == pytest.approx(log2(values), abs=1e-9)


@pytest.mark.parametrize(
    ("deviation", "wanted"), [(2.0**-41.1, 11.2), (2.0**-44, 17.0), (2.0**-46.7, 22.4)]
)
def test_guarded_profile_allows_what_the_design_says(deviation: float, wanted: float) -> None:
    allowed = log2_values(SIGMA_TWO_DECIMALS, error_bound(deviation), 40)
    assert allowed == pytest.approx(wanted, abs=0.05)


def test_decimals_are_safe_at_six_sigma() -> None:
    assert 6 * SIGMA_TWO_DECIMALS <= 0.0052
    assert 6 * SIGMA_THREE_DECIMALS <= 0.001


def test_information_budget_of_the_compact_profile() -> None:
    bound = 2.0**-15.4
    assert leaked_bits(2**16, SIGMA_TWO_DECIMALS, bound) < 64
    assert charged_answers(64, SIGMA_TWO_DECIMALS, bound) >= 2**16
    assert (
        leaked_bits(charged_answers(64, SIGMA_TWO_DECIMALS, bound), SIGMA_TWO_DECIMALS, bound) <= 64
    )


def test_an_answer_never_carries_more_than_the_bit_that_it_is() -> None:
    assert leaked_bits_each(1.0, 100.0) > 1
    assert leaked_bits(128, 1.0, 100.0) == 128
    assert charged_answers(128, 1.0, 100.0) == 128


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_parameters_are_refused(value: float) -> None:
    with pytest.raises(InvalidInput):
        error_bound(value)
    with pytest.raises(InvalidInput):
        sigma_for(1.0, value, 40)
    with pytest.raises(InvalidInput):
        log2_values(value, 1.0, 40)
    with pytest.raises(InvalidInput):
        leaked_bits_each(value, 1.0)
