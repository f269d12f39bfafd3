"""How much noise a release needs, and how many values a key epoch may release.

An exact CKKS decryption of a ciphertext whose message is known gives the key away (Li and
Micciancio, EUROCRYPT 2021). The noise follows the Gaussian mechanism of Li, Micciancio, Schultz
and Sorrell, "Securing approximate homomorphic encryption using differential privacy" (ePrint
2022/816). The bounds below are our derivation from theirs (OVERSIGHT section 3):

    sigma_s = sqrt(12 R) * 2^(s/2) * t
    log2 R  = 2 (log2 sigma_s - log2 t) - s - log2 12
    t       = 2^3.5 * (standard deviation of the score error)

with ``R`` the number of values made visible in a key epoch and ``s`` the statistical security in
bits. All deviations are in units of the score.
"""

from __future__ import annotations

from math import exp2, log, log2, sqrt
from typing import Final

from underseal_core.errors import InvalidInput

SIGMA_THREE_DECIMALS: Final = 2.0**-12.6
"""6 sigma within half a unit of the third decimal."""
SIGMA_TWO_DECIMALS: Final = 2.0**-10.2
"""6 sigma within half a unit of the second decimal."""
DEFAULT_STATISTICAL_BITS: Final = 40
BAND: Final = 16.0
"""Scores this many sigma from the threshold do not depend on the noise."""

_TAIL: Final = 2.0**3.5
"""``sqrt(2) * 8``: eight standard deviations bound the error, sqrt(2) for a difference of two."""
_LOG2_12: Final = log2(12.0)


def error_bound(score_deviation: float) -> float:
    """Return ``t`` for a measured standard deviation of the score error."""
    return _TAIL * _positive(score_deviation)


def sigma_for(values: float, bound: float, statistical_bits: float) -> float:
    """Return ``sigma_s`` that allows ``values`` releases at this statistical security."""
    return sqrt(12.0 * _positive(values)) * exp2(statistical_bits / 2.0) * _positive(bound)


def log2_values(sigma: float, bound: float, statistical_bits: float) -> float:
    """Return ``log2 R``, the number of values that ``sigma`` allows; negative means none."""
    ratio = log2(_positive(sigma)) - log2(_positive(bound))
    return 2.0 * ratio - statistical_bits - _LOG2_12


def leaked_bits(charged: float, sigma: float, bound: float) -> float:
    """Return how many bits about the error the charged yes/no answers carry at most.

    Each carries at most ``(t / sigma_s)^2 / 2`` nats, and never more than the bit that it is.
    This is the information budget of profiles without an IND-CPA^D claim.
    """
    return charged * min(1.0, leaked_bits_each(sigma, bound))


def leaked_bits_each(sigma: float, bound: float) -> float:
    """Return the bound ``(t / sigma_s)^2 / 2`` for one charged answer, in bits."""
    return (_positive(bound) / _positive(sigma)) ** 2 / (2.0 * log(2.0))


def charged_answers(leak_limit: float, sigma: float, bound: float) -> int:
    """Return how many charged yes/no answers stay within ``leak_limit`` bits."""
    return int(leak_limit / min(1.0, leaked_bits_each(sigma, bound)))


def _positive(value: float) -> float:
    if not 0.0 < value < float("inf"):
        raise InvalidInput("a noise parameter must be positive and finite")
    return value
