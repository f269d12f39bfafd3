"""Ring elements at key level and below: small polynomials into NTT form, automorphisms, gadgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from underseal_core.ring import kernel

if TYPE_CHECKING:
    from underseal_auditor.keys.sampling import Small
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.profiles import Profile


def transform(values: Small, primes: tuple[int, ...]) -> Residues:
    """Reduce integer polynomials by each prime and transform them.

    Parameters
    ----------
    values
        ``int64``, shape ``(..., degree)``.

    Returns
    -------
    Residues
        Shape ``(..., len(primes), degree)`` in NTT form.
    """
    modulus = np.array(primes, dtype=np.int64)[:, None]
    return kernel.ntt_forward((values[..., None, :] % modulus).astype(np.uint32), primes)


def automorphism(values: Small, element: int) -> Small:
    """Return ``f(X^element)`` for the polynomial ``f`` with coefficients ``values``.

    ``element`` is odd, so that coefficients move one to one: coefficient ``i`` goes to
    ``i * element mod 2N``, with a sign when that is ``N`` or more.
    """
    degree = len(values)
    positions = np.arange(degree) * element % (2 * degree)
    result = np.empty_like(values)
    result[positions % degree] = np.where(positions < degree, values, -values)
    return result


def gadget(element: Residues, digit: int, profile: Profile) -> Residues:
    """Return ``[P * x]_digit``: ``P * x`` in the RNS component ``digit``, zero in the others.

    ``element`` and the result have shape ``(fresh_level + 1, degree)``.
    """
    prime = profile.data_primes[digit]
    result = np.zeros_like(element)
    scaled = element[digit].astype(np.uint64) * np.uint64(profile.special_prime % prime)
    result[digit] = scaled % np.uint64(prime)
    return result


def divide_by_special(element: Residues, profile: Profile, level: int) -> Residues:
    """Divide by the special prime and round, leaving ``level`` data primes.

    Parameters
    ----------
    element
        ``(level + 1, degree)`` in NTT form, the special prime last.

    Returns
    -------
    Residues
        ``(level, degree)`` in NTT form.
    """
    special = profile.special_prime
    primes = profile.data_primes[:level]
    last = kernel.ntt_inverse(element[-1:].copy(), (special,)).astype(np.int64)[0]
    remainder = transform(np.where(last > special // 2, last - special, last), primes)
    difference = kernel.subtract(element[:-1].copy(), remainder, primes)
    return times_integers(difference, tuple(pow(special, -1, prime) for prime in primes), primes)


def times_integers(
    element: Residues, factors: tuple[int, ...], primes: tuple[int, ...]
) -> Residues:
    """Multiply residues (level, degree) by one integer per prime, ``0 <= factor < prime``."""
    factor = np.array(factors, dtype=np.uint64)[:, None]
    modulus = np.array(primes, dtype=np.uint64)[:, None]
    return (element * factor % modulus).astype(np.uint32)


def total(elements: list[Residues], primes: tuple[int, ...]) -> Residues:
    """Add arrays of one shape ``(..., len(primes), degree)``; there is at least one."""
    result = elements[0]
    for element in elements[1:]:
        result = kernel.add(result, element, primes)
    return result
