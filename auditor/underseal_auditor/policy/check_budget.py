"""What the opened checks of probes say to the auditors' own side, and how many that allows.

Norm and projection of every search are opened too. Nobody but the process that combines the
answers sees their coefficients, with noise; with k of n that is one auditor, who must not learn
the others' shares. Their errors are much larger than a score's: they follow from the encryption of
the probe at fresh scale, not from a block of the gallery. No noise that leaves the checks their
meaning covers them at 40 bits of statistical security, so there is an information budget instead,
as for ``compact`` and ``swift``: a coefficient with an error of variance ``v`` under noise of
variance ``s`` says at most ``log2(1 + v / s) / 2`` bits about the error (the capacity of the
Gaussian channel, which no distribution of the error exceeds), and a key epoch may say
``LEAK_LIMIT`` bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log2, sqrt
from typing import Final

from underseal_auditor.keys.flooding import SIGMA_TWO_DECIMALS
from underseal_auditor.policy.budget import LEAK_LIMIT
from underseal_core.scheme.profiles import Profile

CHECK_NOISE: Final = SIGMA_TWO_DECIMALS
"""Of norm and projection, whatever decimals the policy releases: nothing of them leaves."""

NORM_DEVIATION: Final[Mapping[str, float]] = {
    "guarded": 2.0**-21.1,
    "compact": 2.0**-21.1,
    "swift": 2.0**-19.6,
}
"""Measured standard deviation of the error of a norm's coefficient, keys of one member."""

PROJECTION_DEVIATION: Final[Mapping[str, float]] = {
    "guarded": 2.0**-22.6,
    "compact": 2.0**-22.6,
    "swift": 2.0**-21.1,
}
"""Likewise of a projection's, to be multiplied by the root of the dimension."""


def check_leak(profile: Profile, dimension: int, members: int) -> float:
    """Return how many bits about the errors the two checks of one search say at most.

    Parameters
    ----------
    dimension
        Padded.
    members
        Of the ceremony; the errors' variances are sums over them.
    """
    norm = NORM_DEVIATION[profile.name] * sqrt(members)
    projection = PROJECTION_DEVIATION[profile.name] * sqrt(dimension * members)
    each = (log2(1.0 + (error / CHECK_NOISE) ** 2) / 2.0 for error in (norm, projection))
    return profile.degree * sum(each)


def most_openings(profile: Profile, dimension: int, members: int) -> int | None:
    """Return how many searches a key epoch may open; None for one member, who has the key."""
    if members == 1:
        return None
    return int(LEAK_LIMIT / check_leak(profile, dimension, members))
