"""The zero test, public half: that ciphertexts hold nothing where they must be empty.

A ciphertext ``(c0, c1)`` has the plaintext ``c0 + c1 s``. Whoever makes it can add ``K`` to ``c1``
and so ``K s`` to the plaintext, without knowing the key ``s``; but not keep it out of coefficients
that must be zero. For secret-free random odd weights ``w`` and ``e``, drawn after all ciphertexts
were fixed, auditors open together (docs/explanation/scheme.md section 8)

    v[p] = sum_c w[p, c] * sum_(j in empty(c)) e[p, j] * (coefficient j of c's plaintext)

for ``p = 0 .. VALUES - 1``, with noise. Sound ciphertexts give the noise alone. Anybody can compute
the sums of ciphertexts in it, so every auditor does for itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice
from math import sqrt
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from underseal_core.ring.kernel import aligned
from underseal_core.scheme.ciphertext import Ciphertext, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from underseal_core.ring.kernel import Residues
    from underseal_core.scheme.evaluation import Evaluator
    from underseal_core.scheme.profiles import Profile

Weights = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

VALUES: Final = 8
LARGEST_WEIGHT: Final = 255
MEAN_SQUARE_WEIGHT: Final = ((LARGEST_WEIGHT + 1) ** 2 - 1) / 3
"""Of an odd number uniform in ``-255 .. 255``."""
LIMIT: Final = 64.0
"""Bound of ``sum (v / deviation)^2``, chi-square with 8 degrees of freedom: sound ciphertexts
exceed it with probability ``exp(-32) sum_(k<4) 32^k / k!`` = 7.6e-11."""

NOISE: Final[Mapping[str, float]] = {"guarded": 2.0**12, "compact": 4.0, "swift": 4.0}
"""Noise of a value, in standard deviations of its error: a value carries at most
``1 / (2 NOISE^2)`` nats about the error. Less of it would find less of the key, too."""

_DOMAIN: Final = b"underseal/v1/zero-test\x00"
_AT_ONCE: Final = 16
"""Ciphertexts per matrix product: 10 MB as ``float64``."""
_PRODUCTS_EXACT: Final = 4096
"""Products below ``2^40`` whose sum ``float64`` still holds exactly."""


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """Ciphertexts of one kind, empty where ``empty``, ``(degree,)``, says so.

    ``kind``: ``PROBE_ROW``, ``TEMPLATE_ROW`` or ``COLUMN``. ``encryptions``: how many fresh ones
    each is the sum of there.
    """

    kind: Kind
    empty: Mask
    ciphertexts: Iterable[Ciphertext]
    encryptions: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """A claim's weighted sums at gallery level, ``(VALUES, 2, gallery_level, degree)``.

    ``variance``: that of a value's error, in units of a coefficient and of :func:`fresh_variance`.
    """

    empty: Mask
    sums: Residues
    variance: float


@dataclass(frozen=True, slots=True, eq=False)
class ZeroTest:
    """What a test opens: ``weights`` are those of coefficients, ``(VALUES, degree)``."""

    profile: Profile
    weights: Weights
    tails: tuple[Tail, ...]

    def project(self, tail: Tail, coefficients: Residues) -> npt.NDArray[np.int64]:
        """Return the weighted sums of what must be empty.

        Parameters
        ----------
        coefficients
            ``(VALUES, gallery_level, degree)``, not transformed.

        Returns
        -------
        numpy.ndarray
            ``int64``, ``(VALUES, gallery_level)``, below the primes. Exact: sums stay below
            ``2^28 * 2^8 * 2^13 = 2^49``.
        """
        empty = coefficients[..., tail.empty].astype(np.float64)
        sums = np.matmul(empty, self.weights[:, tail.empty, None])[..., 0]
        projected: npt.NDArray[np.int64] = sums.astype(np.int64) % _primes(self.profile)
        return projected

    def integers(self, values: npt.NDArray[np.int64]) -> list[int]:
        """Return centred integers for residues ``(VALUES, gallery_level)``, as they were added."""
        modulus = self.profile.modulus(self.profile.gallery_level)
        found = []
        for row in values % _primes(self.profile):
            value = 0
            for residue, prime in zip(row, self.profile.data_primes, strict=False):
                rest = modulus // prime
                value += int(residue) * pow(rest, -1, prime) % prime * rest
            value %= modulus
            found.append(value - modulus if value > modulus // 2 else value)
        return found

    def noise(self, members: int) -> float:
        """Standard deviation of the noise in a value, in units of a coefficient."""
        return NOISE[self.profile.name] * self.error(members)

    def error(self, members: int) -> float:
        """Standard deviation of the error in a value of sound ciphertexts."""
        variance = sum(tail.variance for tail in self.tails)
        return sqrt(variance * fresh_variance(self.profile, members))

    def passes(self, values: Sequence[int], members: int) -> bool:
        """Whether opened values, in units of a coefficient, are noise."""
        variance = self.noise(members) ** 2 + self.error(members) ** 2
        return sum(float(value) ** 2 for value in values) <= LIMIT * variance


def beyond(profile: Profile, live: int) -> Mask:
    """Return that coefficients are empty from ``live`` on."""
    return np.arange(profile.degree) >= live


def fresh_variance(profile: Profile, members: int) -> float:
    """Variance of a coefficient's error after a rounding, in a key of so many members.

    Both components are rounded: ``(1 + |s|^2) / 12`` with ``|s|^2 = members * 2 N / 3``, the sum of
    ternary secrets. An encryption ends in such a rounding, too, and has no larger error.
    """
    return (1.0 + members * 2.0 * profile.degree / 3.0) / 12.0


def zero_test(evaluator: Evaluator, seed: bytes, claims: Iterable[Claim]) -> ZeroTest:
    """Compute what a test opens.

    Parameters
    ----------
    seed
        Unpredictable to whoever made the ciphertexts.
    claims
        In an order that all auditors know; each one's ciphertexts are read once.
    """
    weights = _weights(seed, b"coefficients", evaluator.profile.degree)
    tails = [_tail(evaluator, seed, index, claim) for index, claim in enumerate(claims)]
    return ZeroTest(evaluator.profile, weights, tuple(tails))


def _tail(evaluator: Evaluator, seed: bytes, index: int, claim: Claim) -> Tail:
    profile, dimension = evaluator.profile, evaluator.dimension
    level = claim.kind.level(profile)
    primes = np.array(profile.data_primes[:level], dtype=np.int64)[:, None]
    shape = (VALUES, 2, level, profile.degree)
    sums = np.zeros(shape)
    count = 0
    for number, some in enumerate(_chunks(claim.ciphertexts)):
        if number % _PRODUCTS_EXACT == 0:
            sums = np.fmod(sums, primes)
        sums += _weighted(_weights(seed, b"%d/%d" % (index, number), len(some)), some)
        count += len(some)
    residues = aligned(shape)
    np.copyto(residues, sums.astype(np.int64) % primes, casting="unsafe")
    empty = int(np.count_nonzero(claim.empty))
    errors = MEAN_SQUARE_WEIGHT * count * claim.encryptions
    if claim.kind is Kind.COLUMN:
        return Tail(claim.empty, residues, MEAN_SQUARE_WEIGHT * errors * empty)
    # As the expansion does: times the dimension, and divided by the primes that rescaling drops.
    residues = _times(evaluator.lower(residues), dimension, profile)
    before = errors / profile.dropped(level, profile.gallery_level) ** 2
    return Tail(claim.empty, residues, MEAN_SQUARE_WEIGHT * empty * dimension**2 * (1.0 + before))


def _weighted(weights: Weights, some: Sequence[Ciphertext]) -> Weights:
    """Sum ciphertexts, once for each row of ``weights``; exact, below ``2^28 * 2^8 * 2^4``."""
    flat = np.empty((len(some), some[0].residues.size))
    for row, one in zip(flat, some, strict=True):
        row[:] = one.residues.reshape(-1)
    return (weights @ flat).reshape(len(weights), *some[0].residues.shape)


def _chunks(ciphertexts: Iterable[Ciphertext]) -> Iterator[list[Ciphertext]]:
    rest = iter(ciphertexts)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def _weights(seed: bytes, label: bytes, count: int) -> Weights:
    """Return odd numbers, uniform in ``-255 .. 255``, ``(VALUES, count)``."""
    material = hashlib.shake_256(_DOMAIN + seed + label).digest(VALUES * count)
    numbers = np.frombuffer(material, dtype=np.uint8).astype(np.float64)
    return (2.0 * numbers - LARGEST_WEIGHT).reshape(VALUES, count)


def _times(residues: Residues, factor: int, profile: Profile) -> Residues:
    product = residues.astype(np.int64) * factor % _primes(profile)[:, None]
    return np.ascontiguousarray(product, dtype=np.uint32)


def _primes(profile: Profile) -> npt.NDArray[np.int64]:
    return np.array(profile.data_primes[: profile.gallery_level], dtype=np.int64)
