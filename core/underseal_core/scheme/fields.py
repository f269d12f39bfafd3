"""Fields of fixed size taken, in order, from bytes that a peer sent."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.profiles import Profile


class FieldReader:
    """Reads fields one after the other; every read checks that the bytes are there.

    Parameters
    ----------
    data
        The whole message.
    offset
        Where the first field starts.
    """

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self._data = memoryview(data)
        self._offset = offset

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes.

        Raises
        ------
        InvalidInput
            There are fewer.
        """
        return bytes(self._next(size))

    def residues(self, primes: tuple[int, ...], shape: tuple[int, ...]) -> Residues:
        """Return ``uint32`` little-endian residues, each below its prime.

        Parameters
        ----------
        primes
            Moduli along the last axis but one.
        shape
            Of the result, ``(..., len(primes), degree)``.

        Raises
        ------
        InvalidInput
            Too few bytes, or a residue that is not below its prime.
        """
        values = np.frombuffer(self._next(4 * prod(shape)), dtype="<u4").reshape(shape)
        if not bool((values < np.array(primes, dtype=np.uint32)[:, None]).all()):
            raise InvalidInput("a residue is not below its prime")
        return values.astype(np.uint32, order="C")

    def key_residues(self, profile: Profile, shape: tuple[int, ...]) -> Residues:
        """Return residues at key level: shape ``(*shape, fresh_level + 1, degree)``."""
        primes = (*profile.data_primes, profile.special_prime)
        return self.residues(primes, (*shape, len(primes), profile.degree))

    def finish(self) -> None:
        """Check that nothing is left.

        Raises
        ------
        InvalidInput
            There are more bytes.
        """
        if self._offset != len(self._data):
            raise InvalidInput("the message is longer than its fields")

    def _next(self, size: int) -> memoryview:
        end = self._offset + size
        if end > len(self._data):
            raise InvalidInput("the message is shorter than its fields")
        view = self._data[self._offset : end]
        self._offset = end
        return view
