"""How many values a key epoch may make visible, by profile and decimals (OVERSIGHT section 3).

``guarded`` covers released scores: ``log2 R = 2 (log2 sigma - log2 t) - 40 - log2 12``. The other
profiles have no room for that claim and release yes or no only, under an information budget: at
most ``LEAK_LIMIT`` bits about the errors in a key epoch. Strict mode counts each charged answer as
the whole bit that it is, and needs no assumption about the error at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Final

from underseal_auditor.keys.flooding import (
    BAND,
    DEFAULT_STATISTICAL_BITS,
    SIGMA_THREE_DECIMALS,
    SIGMA_TWO_DECIMALS,
    charged_answers,
    error_bound,
    log2_values,
)
from underseal_core.errors import InvalidInput
from underseal_core.scheme.profiles import Profile

SCORE_DEVIATION: Final[Mapping[str, float]] = {
    "guarded": 2.0**-43.6,
    "compact": 2.0**-15.6,
    "swift": 2.0**-14.6,
}
"""Measured standard deviation of a score's error in a block filled by one-template rows, which is
the noisiest; the same at d = 128 and d = 512. With the keys of one member, see
:func:`score_deviation`."""

LEAK_LIMIT: Final = 64.0
"""Bits about the errors that ``compact`` (256-bit parameters) may lose in a key epoch."""

STRICT_VALUES: Final[Mapping[str, int]] = {"guarded": 128, "compact": 128, "swift": 16}
"""Charged bits in strict mode: 256 - 128 for ``compact``; ``swift`` has no margin, for trials."""


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """What a profile allows.

    ``numeric``: whether scores may leave at all. ``noise_std``: the flooding noise, in units of
    the score. ``max_values``: the largest budget of a key epoch.
    """

    numeric: bool
    strict: bool
    noise_std: float
    max_values: int

    @property
    def band(self) -> float:
        """Distance from the threshold beyond which the noise cannot change an answer."""
        return BAND * self.noise_std


def score_deviation(profile: Profile, members: int) -> float:
    """Return the standard deviation of a score's error with the keys of a ceremony.

    Secret and error of the joint keys are sums over ``members``, so their deviations, and with
    them every part of a score's error, grow with the root of the number of members.
    It is the root of the mean over keys and probes; one key's may be larger where one ciphertext is
    in many slots, see docs/explanation/release.md.
    """
    return SCORE_DEVIATION[profile.name] * sqrt(members)


def budget_rule(profile: Profile, decimals: int, *, strict: bool, members: int) -> BudgetRule:
    """Return the rule for a profile and the decimals that a policy releases (0: yes or no).

    Parameters
    ----------
    members
        How many took part in the ceremony of the keys.

    Raises
    ------
    InvalidInput
        The combination is not safe with any budget.
    """
    sigma = SIGMA_THREE_DECIMALS if decimals == 3 else SIGMA_TWO_DECIMALS
    if strict:
        if decimals:
            raise InvalidInput("strict mode releases yes or no", hint="set release.decimals = 0")
        return BudgetRule(False, True, sigma, STRICT_VALUES[profile.name])
    bound = error_bound(score_deviation(profile, members))
    if profile.name == "guarded":
        values = int(2.0 ** log2_values(sigma, bound, DEFAULT_STATISTICAL_BITS))
        return BudgetRule(True, False, sigma, values)
    if profile.name == "compact":
        return BudgetRule(False, False, sigma, charged_answers(LEAK_LIMIT, sigma, bound))
    raise InvalidInput(
        f"profile {profile.name} is for trials only",
        hint="set release.strict = true, or hold a ceremony for guarded or compact",
    )
