"""Opened scores, to compare with those of the plaintext."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Residues
from underseal_core.scheme.encoding import decode_coefficients

Real = npt.NDArray[np.float64]

BOUND: Final = {"guarded": 2.0**-41, "compact": 2.0**-13, "swift": 2.0**-12}
"""About 8 standard deviations of a bulk-enrolled block's score error, by profile."""


def opened(result: Ciphertext, secret: Residues) -> Real:
    """Decrypt a block's scores, ``(degree,)``; ``secret``: ``(data primes, degree)``."""
    profile = result.profile
    level, scale = profile.result_level, profile.result_scale
    primes = profile.data_primes[:level]
    c0, c1 = (np.ascontiguousarray(part) for part in result.residues)
    masked = kernel.multiply(c1, np.ascontiguousarray(secret[:level]), primes)
    return decode_coefficients(kernel.add(c0, masked, primes), profile, level, scale)
