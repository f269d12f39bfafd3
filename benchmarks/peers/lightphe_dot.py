"""LightPHE: Paillier's additive encryption of the gallery, and a probe in clear.

The library multiplies encrypted tensors with lists of numbers that are not negative, so vectors
are moved by 1 in every coordinate, and one coordinate more takes away what that adds::

    (p + 1) . (t + 1) + (c - sum t) * 1  =  p . t + sum p + d + c,    c = sqrt(d) >= sum t

A fresh encryption takes a tenth of a second for each coordinate, which is not what is measured
here: templates share a few of the encryptions of zero that hide them. The comparison costs the
same.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
import numpy.typing as npt
from lightphe import LightPHE
from lightphe.models.Tensor import EncryptedTensor, Fraction

from benchmarks.peers.system import CLEAR, ENCRYPTED, About, Sizes

if TYPE_CHECKING:
    from benchmarks.inputs import Inputs

KEY_BITS: Final = 3072
"""128-bit security, as the others have."""
PRECISION: Final = 5
"""Decimals of a coordinate: the library's default."""
ZEROS: Final = 4


class LightpheDot:
    """``EncryptedTensor @ list``."""

    about: ClassVar = About(
        name="LightPHE (Paillier, 3,072 bits)",
        package="lightphe",
        probe=CLEAR,
        gallery=ENCRYPTED,
        enrolment="public",
        opens="one holder of the secret key",
        open_to="the operator sees every probe; whoever decrypts sees every score and template",
        tolerance=1e-2,
        threaded=False,
        most=20,
        together=1,
        runs=1,
    )

    def __init__(self, given: Inputs) -> None:
        self._given = given
        self._offset = float(np.sqrt(len(given.probe)))
        self._system = LightPHE("Paillier", key_size=KEY_BITS, precision=PRECISION)
        self._scheme = self._system.cs
        self._square = self._scheme.keys["public_key"]["n"] ** 2
        self._zeros = [self._scheme.encrypt(0) for _ in range(ZEROS)]
        self._divisor = self._scheme.encrypt(10**PRECISION)
        self._gallery = [self._encrypt(vector) for vector in given.templates]

    def _encrypt(self, vector: npt.NDArray[np.float64]) -> EncryptedTensor:
        moved = [*(vector + 1), self._offset - vector.sum()]
        fractions = [self._fraction(float(value)) for value in moved]
        return EncryptedTensor(fractions=fractions, cs=self._scheme, precision=PRECISION)

    def _fraction(self, value: float) -> Fraction:
        # (1 + n)^m = 1 + m n (mod n^2), hidden by an encryption of zero.
        public = self._scheme.keys["public_key"]["n"]
        whole = round(value * 10**PRECISION)
        hidden = (1 + whole * public) * secrets.choice(self._zeros) % self._square
        return Fraction(dividend=hidden, abs_dividend=hidden, divisor=self._divisor, sign=1)

    def query(self) -> list[float]:
        """Move the probe; rounded, because the library cuts off what it does not keep."""
        kept = np.round(self._given.probe + 1, PRECISION) + 0.1 * 10.0**-PRECISION
        return [*kept.tolist(), 1.0]

    def prepare(self, query: list[float], threads: int) -> list[float]:
        """Change nothing."""
        return query

    def compare(self, prepared: list[float], threads: int) -> list[EncryptedTensor]:
        """Take the inner products, one after the other."""
        return [template @ prepared for template in self._gallery]

    def open(self, answer: list[EncryptedTensor]) -> npt.NDArray[np.float64]:
        """Decrypt every score."""
        added = float(self._given.probe.sum()) + len(self._given.probe) + self._offset
        scores: npt.NDArray[np.float64] = np.array(
            [self._system.decrypt(score)[0] for score in answer]
        )
        return scores - added

    def sizes(self) -> Sizes:
        """Return what the library keeps: three integers modulo n^2 for every coordinate."""
        number = -(-self._square.bit_length() // 8)
        count = len(self._given.probe) + 1
        return Sizes(3 * number * count, 8 * count, number // 2)
