"""The test that shares open at every prime of the key level; the dummy search uses the first few.

Opened is an encryption of zero under the public key, at key level and without rounding. All shares
lie on one polynomial of degree ``k - 1`` if the groups ``{1, ..., k-1, j}`` open it, for every
``j >= k``: two such polynomials that agree in ``0, 1, ..., k-1`` are the same.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Final

import numpy as np

from underseal_auditor.keys.decryption import masked_answer
from underseal_auditor.keys.elements import total, transform
from underseal_auditor.keys.messages import CeremonyFailed
from underseal_auditor.keys.sampling import error, ternary
from underseal_core.ring import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_auditor.keys.known_answer import Quorum
    from underseal_auditor.keys.sampling import Small, Stream
    from underseal_auditor.keys.share import Share
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.profiles import Profile

NOISE: Final = 2.0**36
"""Standard deviation of an opened coefficient: 2^26 times the error of the zero, and far below the
product of two primes, of 26 bits at least."""
LARGEST: Final = 10.0 * NOISE
LARGEST_RMS: Final = 1.08 * NOISE
_TAG: Final = 0xFF
"""In place of a ciphertext's kind: no ciphertext has it."""


def spanning(file: Quorum) -> list[tuple[int, ...]]:
    """Return groups of ``threshold`` points that show all shares to be of one polynomial."""
    head = tuple(range(1, file.threshold))
    return [(*head, point) for point in range(file.threshold, len(file.members) + 1)]


def spanning_with(file: Quorum, point: int) -> list[tuple[int, ...]]:
    """Return the groups that ``point`` is in, in the order of :func:`spanning`."""
    return [active for active in spanning(file) if point in active]


def encrypt_whole_zero(public_key: Residues, profile: Profile, stream: Stream) -> Residues:
    """Encrypt zero at key level, without rounding: ``v pk + (e0, e1)``, shape ``(2, L + 1, N)``."""
    primes = profile.key_primes
    mask = transform(ternary(stream, profile.degree), primes)
    noise = transform(error(stream, (2, profile.degree)), primes)
    components = [
        kernel.add(kernel.multiply(np.ascontiguousarray(key), mask, primes), small, primes)
        for key, small in zip(public_key, noise, strict=True)
    ]
    for secret in (mask, noise):
        secret.fill(0)
    return np.stack(components)


class WholeShareTest:
    """The sum of all members' zeros, ``(2, L + 1, N)`` each, and the check of what it opens to."""

    def __init__(self, profile: Profile, zeros: Sequence[Residues]) -> None:
        self._profile = profile
        self._primes = profile.key_primes
        self._zero = total(list(zeros), self._primes)

    def answer(self, share: Share, active: tuple[int, ...], stream: Stream) -> Residues:
        """Return a member's masked and noised answer, ``(L + 1, N)``."""
        mask = share.pairs.mask_element(active, _TAG, self._zero, self._primes)
        deviation = NOISE / sqrt(len(active))
        return masked_answer(share, active, self._zero[1], self._primes, deviation, mask, stream)

    def check(self, active: tuple[int, ...], answers: Sequence[Residues]) -> None:
        """Check that a group opens the same small integers modulo every prime.

        Raises
        ------
        CeremonyFailed
            It does not.
        """
        opened = kernel.ntt_inverse(
            total([self._zero[0].copy(), *answers], self._primes), self._primes
        )
        values = _lift(opened[:2], self._primes[:2])
        modulus = np.array(self._primes, dtype=np.int64)[:, None]
        same = np.array_equal(values[None, :] % modulus, opened)
        rms = float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))
        if not same or np.abs(values).max() > LARGEST or rms > LARGEST_RMS:
            members = ", ".join(str(point) for point in active)
            raise CeremonyFailed(f"members {members} together do not open the known answer")


def _lift(residues: Residues, primes: tuple[int, ...]) -> Small:
    """Return the centred integers below the product of two primes, by Garner's method."""
    first, second = primes
    low, high = residues.astype(np.int64)
    steps = (high - low) * pow(first, -1, second) % second
    values = low + first * steps
    half = first * second // 2
    centred: Small = np.where(values > half, values - first * second, values)
    return centred
