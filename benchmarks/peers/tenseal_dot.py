"""TenSEAL as its tutorials show it: a vector for each template, and ``ckks_vector.dot``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import tenseal

from benchmarks.peers.system import ENCRYPTED, About, Sizes

if TYPE_CHECKING:
    from benchmarks.inputs import Inputs

DEGREE: Final = 8192
MODULUS_BITS: Final = (60, 40, 40, 60)
SCALE: Final = 2.0**40


class TensealDot:
    """One ciphertext and some ten rotations for each comparison."""

    about: ClassVar = About(
        name="TenSEAL ckks_vector.dot",
        package="tenseal",
        probe=ENCRYPTED,
        gallery=ENCRYPTED,
        enrolment="public",
        opens="one holder of the secret key",
        open_to="whoever decrypts sees every score, and may decrypt every template",
        tolerance=1e-4,
        threaded=False,
        most=64,
        together=1,
        runs=3,
    )

    def __init__(self, given: Inputs) -> None:
        self._context = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS, DEGREE, coeff_mod_bit_sizes=list(MODULUS_BITS), n_threads=1
        )
        self._context.generate_galois_keys()
        self._context.global_scale = SCALE
        self._probe = given.probe
        self._gallery = [self._encrypt(vector) for vector in given.templates]

    def _encrypt(self, vector: npt.NDArray[np.float64]) -> Any:
        return tenseal.ckks_vector(self._context, vector.tolist())

    def query(self) -> Any:
        """Encrypt the probe."""
        return self._encrypt(self._probe)

    def prepare(self, query: Any, threads: int) -> Any:
        """Change nothing."""
        return query

    def compare(self, prepared: Any, threads: int) -> list[Any]:
        """Take the inner products, one after the other."""
        return [prepared.dot(template) for template in self._gallery]

    def open(self, answer: list[Any]) -> npt.NDArray[np.float64]:
        """Decrypt every score."""
        return np.array([score.decrypt()[0] for score in answer])

    def sizes(self) -> Sizes:
        """Return the lengths of what TenSEAL serialises."""
        kept = {"save_public_key": False, "save_secret_key": False}
        keys = self._context.serialize(**kept, save_galois_keys=True, save_relin_keys=True)
        size = len(self._gallery[0].serialize())
        return Sizes(size, len(self.query().serialize()), len(keys))
