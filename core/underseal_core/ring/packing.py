"""Residues as they are stored and sent: as many bits each as their prime has.

Value ``i`` of a polynomial takes bits ``[i b, (i + 1) b)`` of a little-endian stream, least
significant bit first, where ``b`` is the bit length of the prime: 28 in ``guarded`` and
``compact``, 26 in ``swift``, one more for the special prime. Polynomials have a multiple of 8
coefficients, so each fills whole bytes, no bit is spare, and every array has one form.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np

from underseal_core.errors import InvalidInput
from underseal_core.ring import _kernel
from underseal_core.ring.kernel import aligned, check_array

if TYPE_CHECKING:
    import numpy.typing as npt

    from underseal_core.ring.kernel import Residues

    Bytes = npt.NDArray[np.uint8]

GROUP: Final = 8
"""Polynomials, and pieces of them, have a multiple of so many values."""


def packed_size(primes: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Return the bytes of an array of shape ``(..., len(primes), n)``, ``n`` a multiple of 8."""
    bits = sum((prime - 1).bit_length() for prime in primes)
    return prod(shape[:-2]) * (shape[-1] // GROUP) * bits


def pack(values: Residues, primes: tuple[int, ...]) -> Bytes:
    """Write residues.

    Parameters
    ----------
    values
        ``(..., len(primes), n)``, dtype ``uint32``, ``n`` a multiple of 8.

    Returns
    -------
    Bytes
        ``(packed_size(primes, values.shape),)``, dtype ``uint8``.

    Raises
    ------
    InvalidInput
        Another shape or type, or a residue that is not below its prime: no reader would take it.
    """
    values = np.ascontiguousarray(values)
    check_array(values, "values")
    _check_shape(values.shape, primes)
    out = np.empty(packed_size(primes, values.shape), dtype=np.uint8)
    if not _kernel.pack(list(primes), values.reshape(-1, *values.shape[-2:]), out):
        raise InvalidInput("a residue is not below its prime")
    return out


def unpack(data: bytes | memoryview, primes: tuple[int, ...], shape: tuple[int, ...]) -> Residues:
    """Return the residues that :func:`pack` wrote, in memory of their own.

    Parameters
    ----------
    shape
        Of the result, ``(..., len(primes), n)``.

    Raises
    ------
    InvalidInput
        Another number of bytes, or a residue that is not below its prime.
    """
    out = aligned(shape)
    unpack_into(out, data, primes)
    return out


def unpack_into(out: Residues, data: bytes | memoryview, primes: tuple[int, ...]) -> None:
    """Write the residues that :func:`pack` wrote into an array; see :func:`unpack`."""
    check_array(out, "values")
    _check_shape(out.shape, primes)
    if len(data) != packed_size(primes, out.shape):
        raise InvalidInput("packed residues have the wrong length")
    stream = np.frombuffer(data, dtype=np.uint8)
    if not _kernel.unpack(list(primes), stream, out.reshape(-1, *out.shape[-2:])):
        raise InvalidInput("a residue is not below its prime")


def _check_shape(shape: tuple[int, ...], primes: tuple[int, ...]) -> None:
    if len(shape) < 2 or shape[-2] != len(primes) or shape[-1] % GROUP:
        raise InvalidInput(f"residues have shape {shape}, wanted (..., {len(primes)}, 8 n)")
