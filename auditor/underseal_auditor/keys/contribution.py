"""A member's part of the public, relinearisation and Galois keys, and the sums of all parts.

The formulas are steps 1 to 3 of OVERSIGHT section 5 (Mouchet, Troncoso-Pastoriza, Bossuat and
Hubaux, "Multiparty homomorphic encryption from ring-learning-with-errors", PoPETs 2021,
protocols EncKeyGen and RelinKeyGen). Shapes: ``L`` data primes, ``K = L + 1`` primes at key
level; an element is ``(K, N)``, a digit list ``(L, K, N)``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import numpy as np

from underseal_auditor.keys.elements import automorphism, gadget, total, transform
from underseal_auditor.keys.sampling import PublicStream, error, ternary, uniform
from underseal_core.ring import kernel
from underseal_core.scheme.evaluation import EvaluationKeys, galois_elements
from underseal_core.scheme.fields import FieldReader, pack_residues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_auditor.keys.sampling import Stream
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.profiles import Profile


@dataclass(frozen=True, slots=True, eq=False)
class CommonPolynomials:
    """Uniform polynomials that all members derive from the same seed.

    ``public_key``: ``(K, N)``; ``relinearisation``: ``(L, K, N)``; ``galois``:
    ``(log2 d, L, K, N)``. Uniform in NTT form is uniform.
    """

    public_key: Residues
    relinearisation: Residues
    galois: Residues

    @classmethod
    def derive(cls, seed: bytes, profile: Profile, dimension: int) -> Self:
        """Derive them from a 32-byte seed."""
        elements = galois_elements(profile, dimension)
        return cls(
            _common(seed, "underseal/v1/common/public-key", profile, 1)[0],
            _common(seed, "underseal/v1/common/relinearisation", profile, profile.fresh_level),
            np.stack(
                [
                    _common(seed, f"underseal/v1/common/galois-{g}", profile, profile.fresh_level)
                    for g in elements
                ]
            ),
        )


def _common(seed: bytes, label: str, profile: Profile, count: int) -> Residues:
    stream = PublicStream(seed, label)
    primes = profile.key_primes
    return np.stack([uniform(stream, primes, profile.degree) for _ in range(count)])


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """A member's message of the contribution round.

    ``public_key``: ``(K, N)``; ``first`` and ``second``: ``(L, K, N)``, round 1 of the
    relinearisation key; ``galois``: ``(log2 d, L, K, N)``.
    """

    public_key: Residues
    first: Residues
    second: Residues
    galois: Residues

    def to_bytes(self, profile: Profile) -> bytes:
        """Serialise; the exact inverse of :meth:`parse`."""
        return pack_residues(profile, (getattr(self, field.name) for field in fields(self)))

    @classmethod
    def parse(cls, payload: bytes, profile: Profile, dimension: int) -> Self:
        """Parse another member's message.

        Raises
        ------
        InvalidInput
            Wrong length, or a residue that is not below its prime.
        """
        reader = FieldReader(payload)
        levels = len(galois_elements(profile, dimension))
        digits = (profile.fresh_level,)
        contribution = cls(
            reader.key_residues(profile, ()),
            reader.key_residues(profile, digits),
            reader.key_residues(profile, digits),
            reader.key_residues(profile, (levels, *digits)),
        )
        reader.finish()
        return contribution


class SecretPart:
    """A member's own secret ``s_i`` and the ephemeral ``u_i`` of the relinearisation key.

    Both ternary. :meth:`erase` overwrites them; the ceremony calls it as soon as shares are dealt.

    Parameters
    ----------
    secrets
        Where both come from. The same stream gives the same secrets: so a member that was
        interrupted finds them again.
    noise
        Where errors come from. Never one that was used before: two messages with the same errors
        would give the secrets away.
    """

    def __init__(self, profile: Profile, secrets: Stream, noise: Stream) -> None:
        self._profile = profile
        self._primes = profile.key_primes
        self._stream = noise
        self._small = ternary(secrets, profile.degree)
        self.element = transform(self._small, self._primes)
        self._ephemeral = transform(ternary(secrets, profile.degree), self._primes)

    def __repr__(self) -> str:
        return "SecretPart(...)"

    def erase(self) -> None:
        """Overwrite both secrets."""
        for array in (self._small, self.element, self._ephemeral):
            array.fill(0)

    def contribute(self, common: CommonPolynomials, dimension: int) -> Contribution:
        """Make the message of the contribution round."""
        elements = galois_elements(self._profile, dimension)
        return Contribution(
            self._masked(common.public_key, self.element),
            np.stack(
                [
                    self._masked(a, self._ephemeral, self.element, digit)
                    for digit, a in enumerate(common.relinearisation)
                ]
            ),
            np.stack([self._noisy_product(self.element, a) for a in common.relinearisation]),
            np.stack(
                [
                    self._galois(polynomials, g)
                    for polynomials, g in zip(common.galois, elements, strict=True)
                ]
            ),
        )

    def relinearise(self, first: Residues, second: Residues) -> Residues:
        """Return ``k_i = s_i H0 + e + (u_i - s_i) H1 + e'`` per digit, from the sums H0 and H1."""
        difference = kernel.subtract(self._ephemeral, self.element, self._primes)
        digits = []
        for h0, h1 in zip(first, second, strict=True):
            left = self._noisy_product(self.element, h0)
            digits.append(kernel.add(left, self._noisy_product(difference, h1), self._primes))
        difference.fill(0)
        return np.stack(digits)

    def _galois(self, polynomials: Residues, element: int) -> Residues:
        small = automorphism(self._small, element)
        moved = transform(small, self._primes)
        parts = [self._masked(a, self.element, moved, digit) for digit, a in enumerate(polynomials)]
        small.fill(0)
        moved.fill(0)
        return np.stack(parts)

    def _masked(
        self, a: Residues, key: Residues, message: Residues | None = None, digit: int = 0
    ) -> Residues:
        """Return ``-(a * key + e)``, plus ``[P * message]_digit``."""
        masked = kernel.negate(self._noisy_product(key, a), self._primes)
        if message is None:
            return masked
        scaled = gadget(message, digit, self._profile)
        result = kernel.add(masked, scaled, self._primes)
        scaled.fill(0)
        return result

    def _noisy_product(self, left: Residues, right: Residues) -> Residues:
        noise = transform(error(self._stream, (self._profile.degree,)), self._primes)
        product = kernel.multiply(left, right, self._primes)
        result = kernel.add(product, noise, self._primes)
        product.fill(0)
        noise.fill(0)
        return result


@dataclass(frozen=True, slots=True, eq=False)
class JointKeys:
    """Sums of all members' contributions; the relinearisation key needs one more round."""

    public_key: Residues
    first: Residues
    second: Residues
    galois: dict[int, Residues]

    @classmethod
    def combine(
        cls,
        contributions: Sequence[Contribution],
        common: CommonPolynomials,
        profile: Profile,
        dimension: int,
    ) -> Self:
        """Add up the contributions."""
        primes = profile.key_primes
        public = total([part.public_key for part in contributions], primes)
        moved = total([part.galois for part in contributions], primes)
        elements = galois_elements(profile, dimension)
        return cls(
            np.stack((public, common.public_key)),
            total([part.first for part in contributions], primes),
            total([part.second for part in contributions], primes),
            {g: np.stack((moved[i], common.galois[i]), axis=1) for i, g in enumerate(elements)},
        )

    def finish(self, parts: Sequence[Residues], profile: Profile) -> EvaluationKeys:
        """Return the evaluation keys, given all members' ``k_i`` of shape ``(L, K, N)``."""
        sums = total(list(parts), profile.key_primes)
        return EvaluationKeys(np.stack((sums, self.second), axis=1), self.galois)
