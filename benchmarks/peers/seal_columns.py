"""SEAL's own evaluator on columns: a ciphertext for each coordinate of 2,048 templates.

The layout that costs least without rotations: the probe is a ciphertext for each coordinate, too,
and the server multiplies, adds up, relinearises once and rescales.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from tenseal import sealapi

from benchmarks.peers.system import ENCRYPTED, About, Sizes

if TYPE_CHECKING:
    from benchmarks.inputs import Inputs

DEGREE: Final = 4096
"""The smallest with room for one product at 128-bit security; larger ones are slower per score."""
SLOTS: Final = DEGREE // 2
MODULUS_BITS: Final = (38, 30, 40)
SCALE: Final = 2.0**30


class SealColumns:
    """``multiply`` and ``add_inplace`` of ``tenseal.sealapi``."""

    about: ClassVar = About(
        name="SEAL evaluator, columns",
        package="tenseal",
        probe=ENCRYPTED,
        gallery=ENCRYPTED,
        enrolment="public",
        opens="one holder of the secret key",
        open_to="whoever decrypts sees every score, and may decrypt every template",
        tolerance=1e-3,
        threaded=False,
        most=4 * SLOTS,
        together=SLOTS,
        runs=3,
    )

    def __init__(self, given: Inputs) -> None:
        parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
        parameters.set_poly_modulus_degree(DEGREE)
        parameters.set_coeff_modulus(sealapi.CoeffModulus.Create(DEGREE, list(MODULUS_BITS)))
        context = sealapi.SEALContext(parameters, True, sealapi.SEC_LEVEL_TYPE.TC128)
        generator = sealapi.KeyGenerator(context)
        public, self._relinearisation = sealapi.PublicKey(), sealapi.RelinKeys()
        generator.create_public_key(public)
        generator.create_relin_keys(self._relinearisation)
        self._encoder = sealapi.CKKSEncoder(context)
        self._encryptor = sealapi.Encryptor(context, public)
        self._evaluator = sealapi.Evaluator(context)
        self._decryptor = sealapi.Decryptor(context, generator.secret_key())
        self._given = given
        blocks = range(0, len(given.templates), SLOTS)
        self._blocks = [
            [self._encrypt(column.tolist()) for column in given.templates[i : i + SLOTS].T]
            for i in blocks
        ]

    def _encrypt(self, values: list[float] | float) -> Any:
        plain, cipher = sealapi.Plaintext(), sealapi.Ciphertext()
        self._encoder.encode(values, SCALE, plain)
        self._encryptor.encrypt(plain, cipher)
        return cipher

    def query(self) -> list[Any]:
        """Encrypt every coordinate of the probe, in all slots."""
        return [self._encrypt(float(value)) for value in self._given.probe]

    def prepare(self, query: list[Any], threads: int) -> list[Any]:
        """Change nothing."""
        return query

    def compare(self, prepared: list[Any], threads: int) -> list[Any]:
        """Return a ciphertext of scores for each block."""
        return [self._compare(prepared, block) for block in self._blocks]

    def _compare(self, probe: list[Any], columns: list[Any]) -> Any:
        total, product = sealapi.Ciphertext(), sealapi.Ciphertext()
        self._evaluator.multiply(columns[0], probe[0], total)
        for column, coordinate in zip(columns[1:], probe[1:], strict=True):
            self._evaluator.multiply(column, coordinate, product)
            self._evaluator.add_inplace(total, product)
        self._evaluator.relinearize_inplace(total, self._relinearisation)
        self._evaluator.rescale_to_next_inplace(total)
        return total

    def open(self, answer: list[Any]) -> npt.NDArray[np.float64]:
        """Decrypt every block."""
        found = []
        for cipher in answer:
            plain = sealapi.Plaintext()
            self._decryptor.decrypt(cipher, plain)
            found.append(np.array(self._encoder.decode_double(plain))[:SLOTS])
        return np.concatenate(found)[: len(self._given.templates)]

    def sizes(self) -> Sizes:
        """Return the lengths of what SEAL saves, compressed as it does by default."""
        column, dimension = _saved(self._blocks[0][0]), len(self._given.probe)
        query = _saved(self._encrypt(0.5)) * dimension
        return Sizes(column * dimension / SLOTS, query, _saved(self._relinearisation))


def _saved(thing: Any) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "saved")
        thing.save(str(path))
        return path.stat().st_size
