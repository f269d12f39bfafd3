"""Masks that hide single answers and cancel in their sum.

Every two members share a secret, to which each gave a half, sealed to the other, when shares were
dealt. From it both derive the same uniform polynomial for one opening; the one with the lower point
adds it, the other subtracts it. So whoever does not hold a share of every pair sees uniform answers
and learns nothing but their sum (Bonawitz et al., "Practical secure aggregation", CCS 2017).

Why the sum only: ``threshold - 1`` others can write a member's ``lambda_i S_i`` as ``beta s`` plus
what they know, with a ratio ``beta`` of small integers. For an active set with two or more members
that are not among them ``beta`` is not 1, and a single answer shows the ciphertext's error times
``beta`` modulo ``q``: exactly, modulo the denominator, however large the noise. The sum of all
answers has ``beta = 1``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from underseal_auditor.keys.sampling import PublicStream, uniform
from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_core.scheme.ciphertext import Ciphertext, Residues

SEED_BYTES: Final = 32
_HALF_DOMAIN: Final = b"underseal/v1/pair-half\x00"
_PAIR_DOMAIN: Final = b"underseal/v1/pair-secret\x00"
_MASK_DOMAIN: Final = b"underseal/v1/pair-mask\x00"


def half_for(master: bytes, recipient: int) -> bytes:
    """Return the half that the member with this ``master`` gives to ``recipient``."""
    return hashlib.sha256(_HALF_DOMAIN + master + bytes((recipient,))).digest()


@dataclass(frozen=True, slots=True, repr=False)
class PairSecrets:
    """One member's secrets with every other member.

    ``content``: 32 bytes for each of the others, in the order of their points.

    Raises
    ------
    InvalidInput
        Not as many bytes as there are others.
    """

    point: int
    members: int
    content: bytearray

    def __post_init__(self) -> None:
        """Check the length."""
        if len(self.content) != SEED_BYTES * (self.members - 1):
            raise InvalidInput("the key share does not hold one pair secret for each other member")

    @classmethod
    def join(cls, point: int, master: bytes, halves: Sequence[bytes]) -> Self:
        """Put together what this member gave and what it got.

        Parameters
        ----------
        master
            What this member's own halves come from.
        halves
            What every member gave to this one, in order; the own entry is not looked at.
        """
        content = bytearray()
        for other, received in enumerate(halves, start=1):
            if other != point:
                given = half_for(master, other)
                lower, upper = (given, received) if point < other else (received, given)
                content += hashlib.sha256(_PAIR_DOMAIN + lower + upper).digest()
        return cls(point, len(halves), content)

    def mask(self, active: Sequence[int], ciphertext: Ciphertext) -> Residues:
        """Return this member's mask, ``(level, degree)``; over all of ``active`` they sum to zero.

        Parameters
        ----------
        ciphertext
            As re-randomised. Members that were shown different ones make masks that do not cancel.
        """
        primes = ciphertext.profile.data_primes[: ciphertext.residues.shape[1]]
        return self.mask_element(active, int(ciphertext.kind), ciphertext.residues, primes)

    def mask_element(
        self, active: Sequence[int], tag: int, residues: Residues, primes: tuple[int, ...]
    ) -> Residues:
        """Return this member's mask for residues ``(2, len(primes), degree)``.

        Parameters
        ----------
        tag
            What is opened, below 256: a ciphertext's kind.
        """
        opening = _opening(active, tag, residues)
        return self.mask_values(active, opening, primes, residues.shape[-1])

    def mask_values(
        self, active: Sequence[int], opening: bytes, primes: tuple[int, ...], count: int
    ) -> Residues:
        """Return this member's mask for ``count`` values, ``(len(primes), count)``.

        Parameters
        ----------
        opening
            32 bytes that name what is opened; never the same for two openings.
        """
        modulus = np.array(primes, dtype=np.uint32)[:, None]
        result = np.zeros((len(primes), count), dtype=np.uint32)
        for other in sorted(active):
            if other == self.point:
                continue
            seed = hashlib.sha256(_MASK_DOMAIN + self._with(other) + opening).digest()
            shared = uniform(PublicStream(seed, "underseal/v1/pair-mask"), primes, count)
            result += shared if self.point < other else modulus - shared
            result %= modulus  # a sum of two stays below 2^30
            shared.fill(0)
        return result

    def close(self) -> None:
        """Overwrite the secrets."""
        self.content[:] = bytes(len(self.content))

    def _with(self, other: int) -> bytes:
        index = other - 1 if other < self.point else other - 2
        return bytes(self.content[SEED_BYTES * index : SEED_BYTES * (index + 1)])


def _opening(active: Sequence[int], tag: int, residues: Residues) -> bytes:
    digest = hashlib.sha256(bytes((len(active), *sorted(active), tag)))
    digest.update(residues.astype("<u4", copy=False).tobytes())
    return digest.digest()
