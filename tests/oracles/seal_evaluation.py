"""SEAL's own keys and evaluator, as the oracle of ours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from tenseal import sealapi

from tests.oracles.seal_keys import decrypt
from underseal_core.scheme.encoding import decode_coefficients
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import EvaluationKeys, galois_elements
from underseal_core.scheme.profiles import Profile
from underseal_core.seal_format import ciphertext_from_seal, ciphertext_to_seal, seal_context

U32 = npt.NDArray[np.uint32]
F64 = npt.NDArray[np.float64]


class SealParty:
    """Holds the secret key, opens what the evaluator made, and computes with SEAL."""

    def __init__(self, profile: Profile, dimension: int) -> None:
        self.profile = profile
        self.dimension = dimension
        context = seal_context(profile)
        generator = sealapi.KeyGenerator(context)
        self.secret = generator.secret_key()
        public = sealapi.PublicKey()
        generator.create_public_key(public)
        self.public_key = ciphertext_from_seal(public.data()).residues
        self._relinearisation = sealapi.RelinKeys()
        generator.create_relin_keys(self._relinearisation)
        self._galois = sealapi.GaloisKeys()
        elements = galois_elements(profile, dimension)
        generator.create_galois_keys(list(elements), self._galois)
        self.keys = EvaluationKeys(
            digits(self._relinearisation.key(2)),
            {element: digits(self._galois.key(element)) for element in elements},
        )
        self._evaluator = sealapi.Evaluator(context)

    def encryptor(self) -> Encryptor:
        return Encryptor(self.profile, self.dimension, self.public_key)

    def apply_galois(self, ciphertext: U32, element: int) -> U32:
        out = sealapi.Ciphertext()
        self._evaluator.apply_galois(self._seal(ciphertext), element, self._galois, out)
        return ciphertext_from_seal(out).residues

    def multiply(self, left: U32, right: U32) -> U32:
        out = sealapi.Ciphertext()
        # SEAL looks at the scale, not at the message: a small one always fits.
        self._evaluator.multiply(self._seal(left), self._seal(right), out)
        return ciphertext_from_seal(out).residues

    def relinearise(self, ciphertext: U32) -> U32:
        out = sealapi.Ciphertext()
        self._evaluator.relinearize(self._seal(ciphertext), self._relinearisation, out)
        return ciphertext_from_seal(out).residues

    def rescale(self, ciphertext: U32) -> U32:
        out = sealapi.Ciphertext()
        self._evaluator.rescale_to_next(self._seal(ciphertext, 2.0**40), out)
        return ciphertext_from_seal(out).residues

    def open(self, ciphertext: U32, scale: float) -> F64:
        """Coefficients, shape (degree,), as SEAL's ``Decryptor`` finds them."""
        message = decrypt(self.profile, self.secret, ciphertext, 1.0)
        return decode_coefficients(message, self.profile, ciphertext.shape[1], scale)

    def _seal(self, ciphertext: U32, scale: float = 1.0) -> Any:
        return ciphertext_to_seal(self.profile, ciphertext, scale)


@cache
def party(profile: Profile, dimension: int) -> SealParty:
    return SealParty(profile, dimension)


def digits(keys: Sequence[Any]) -> U32:
    """A key-switching key as (L, 2, L + 1, N)."""
    return np.stack([ciphertext_from_seal(key.data()).residues for key in keys])


def uniform(rng: np.random.Generator, profile: Profile, level: int, *shape: int) -> U32:
    """Uniform residues, (*shape, level, N)."""
    primes = np.array(profile.data_primes[:level])[:, None]
    size = (*shape, level, profile.degree)
    return rng.integers(0, primes, size=size).astype(np.uint32)


def unit_vectors(rng: np.random.Generator, count: int, dimension: int) -> F64:
    values = rng.normal(size=(count, dimension))
    return values / np.linalg.norm(values, axis=1, keepdims=True)
