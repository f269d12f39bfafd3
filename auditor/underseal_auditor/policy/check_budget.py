"""What the opened norms of probes say to the auditors' own side, and how many that allows.

The squared norm of every probe is opened too: one coefficient, with noise, that nobody but the
process that combines the answers sees; with k of n that is one auditor, who must not learn the
others' shares. Its error is much larger than a score's: it follows from the encryption of the probe
at fresh scale, not from a block of the gallery. No noise that leaves the norm its meaning covers
it at 40 bits of statistical security, so there is an information budget instead, as for ``compact``
and ``swift``: a coefficient with an error of variance ``v`` under noise of variance ``s`` says at
most ``log2(1 + v / s) / 2`` bits about the error (the capacity of the Gaussian channel, which no
distribution of the error exceeds), and a key epoch may say ``LEAK_LIMIT`` bits.

The zero tests of a search, one of its probe and one of new units, are counted in ``guarded``. In
the other profiles their values say 0.35 bits, and scores 3 bits per block and member: these
profiles claim nothing towards the auditor that combines, and the limit is that of norms alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log, log1p
from typing import Final

from underseal_auditor.keys.flooding import SIGMA_TWO_DECIMALS
from underseal_auditor.policy.budget import LEAK_LIMIT
from underseal_core.scheme.profiles import Profile
from underseal_core.scheme.zero_test import NOISE, VALUES

CHECK_NOISE: Final = SIGMA_TWO_DECIMALS
"""Of the norm, whatever decimals the policy releases: nothing of it leaves."""

NORM_DEVIATION: Final[Mapping[str, float]] = {
    "guarded": 2.0**-21.1,
    "compact": 2.0**-21.1,
    "swift": 2.0**-19.6,
}
"""Measured standard deviation of the error of a norm's coefficient, keys of one member."""

ZERO_TESTS: Final[Mapping[str, int]] = {"guarded": 2, "compact": 0, "swift": 0}
"""Of one search, as far as they are counted."""


def check_leak(profile: Profile, members: int) -> float:
    """Return how many bits about errors the checks of one search say at most, as far as counted.

    Parameters
    ----------
    members
        Of the ceremony; the error's variance is a sum over them.
    """
    ratio = members * (NORM_DEVIATION[profile.name] / CHECK_NOISE) ** 2
    values = ZERO_TESTS[profile.name] * VALUES * log1p(NOISE[profile.name] ** -2.0)
    return (log1p(ratio) + values) / (2.0 * log(2.0))


def most_openings(profile: Profile, members: int) -> int | None:
    """Return how many searches a key epoch may open; None for one member, who has the key."""
    return None if members == 1 else int(LEAK_LIMIT / check_leak(profile, members))
