"""Shamir's secret sharing over ``R_q``, prime by prime (OVERSIGHT section 5, steps 3 and 4)."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from underseal_auditor.keys.elements import times_integers
from underseal_auditor.keys.sampling import uniform
from underseal_core.ring import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_auditor.keys.sampling import Stream
    from underseal_core.scheme.ciphertext import Residues


def deal(
    secret: Residues, threshold: int, members: int, primes: tuple[int, ...], stream: Stream
) -> list[Residues]:
    """Return the values at the points ``1..members`` of a polynomial that is ``secret`` at 0.

    The polynomial has degree ``threshold - 1`` and otherwise uniform coefficients, so that fewer
    than ``threshold`` values say nothing about the secret. Sharing in NTT form is the same, since
    the NTT is linear.

    Parameters
    ----------
    secret
        ``(len(primes), degree)``.
    """
    degree = secret.shape[-1]
    coefficients = [uniform(stream, primes, degree) for _ in range(threshold - 1)]
    values = []
    for point in range(1, members + 1):
        value = secret.copy()
        for power, coefficient in enumerate(coefficients, start=1):
            factors = tuple(pow(point, power, prime) for prime in primes)
            partial, term = value, times_integers(coefficient, factors, primes)
            value = kernel.add(partial, term, primes)
            partial.fill(0)
            term.fill(0)
        values.append(value)
    for coefficient in coefficients:
        coefficient.fill(0)
    return values


def lagrange(point: int, active: Sequence[int], prime: int) -> int:
    """Return ``prod x_j / (x_j - x_i)`` over the other active points, modulo the prime."""
    others = [other for other in active if other != point]
    numerator = prod(others)
    denominator = prod(other - point for other in others)
    return numerator * pow(denominator, -1, prime) % prime
