"""Fields of fixed size taken, in order, from bytes that a peer sent; residues written for them.

Residues are packed (``ring/packing``). In the **plain form** they are uint32 little-endian:
secrets, which are better not copied once more, and the hash and old archives of bundles.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from underseal_core.errors import InvalidInput
from underseal_core.ring.packing import pack, packed_size, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.profiles import Profile


def pack_residues(profile: Profile, arrays: Iterable[Residues]) -> bytes:
    """Write arrays of shape ``(..., count, degree)``, each modulo the first ``count`` primes."""
    return b"".join(pack(array, profile.key_primes[: array.shape[-2]]).data for array in arrays)


def residues_size(profile: Profile, count: int) -> int:
    """Return the packed bytes of a polynomial modulo each of the first ``count`` primes."""
    return packed_size(profile.key_primes[:count], (count, profile.degree))


def plain_bytes(array: Residues) -> bytes:
    """Write the plain form."""
    return array.astype("<u4", copy=False).tobytes()


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
        """Return packed residues, each below its prime.

        Parameters
        ----------
        primes
            Moduli along the last axis but one.
        shape
            Of the result, ``(..., len(primes), degree)``, the degree a multiple of 8.

        Raises
        ------
        InvalidInput
            Too few bytes, or a residue that is not below its prime.
        """
        return unpack(self._next(packed_size(primes, shape)), primes, shape)

    def plain_residues(self, primes: tuple[int, ...], shape: tuple[int, ...]) -> Residues:
        """Return residues of any degree in the plain form; see :meth:`residues`."""
        values = np.frombuffer(self._next(4 * prod(shape)), dtype="<u4").reshape(shape)
        if not bool((values < np.array(primes, dtype=np.uint32)[:, None]).all()):
            raise InvalidInput("a residue is not below its prime")
        return values.astype(np.uint32, order="C")

    def key_residues(self, profile: Profile, shape: tuple[int, ...]) -> Residues:
        """Return residues at key level: shape ``(*shape, fresh_level + 1, degree)``."""
        primes = profile.key_primes
        return self.residues(primes, (*shape, len(primes), profile.degree))

    def plain_key_residues(self, profile: Profile, shape: tuple[int, ...]) -> Residues:
        """Return residues at key level in the plain form; see :meth:`key_residues`."""
        primes = profile.key_primes
        return self.plain_residues(primes, (*shape, len(primes), profile.degree))

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
