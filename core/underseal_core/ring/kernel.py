"""Typed boundary of the native kernel: arithmetic on residues modulo several primes.

Arrays are C-contiguous ``uint32`` in SEAL's layout, ``(..., primes, degree)``; transformed
polynomials are in SEAL's bit-reversed order (position ``i`` is the value at
``psi^(2 brv(i) + 1)``, psi the smallest primitive 2N-th root of unity). Every function checks
shape, type and range and raises :class:`InvalidInput`; the native code checks shapes again, so a
mistake here cannot reach outside an array. The interpreter lock is released while it computes.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from underseal_core.errors import InvalidInput
from underseal_core.ring._kernel import Basis
from underseal_core.ring.buffers import Buffers

Residues = npt.NDArray[np.uint32]

LANES: Final = 16
"""Words that the native code handles at once: coefficients of a tile."""
MAX_PRIME_BITS: Final = 29
_CACHE_LINE: Final = 64
_BUFFERS: Final = Buffers()


class Operation(IntEnum):
    """As the native code numbers them."""

    ADD = 0
    SUBTRACT = 1
    MULTIPLY = 2


@cache
def basis(degree: int, primes: tuple[int, ...]) -> Basis:
    """Return the native tables of a degree and a chain of primes, made once.

    Raises
    ------
    InvalidInput
        The degree is no power of two in 16..32768, or a modulus is not a prime below ``2^29``
        that is 1 modulo ``2 * degree``.
    """
    if not all(0 < prime < 1 << MAX_PRIME_BITS for prime in primes):
        raise InvalidInput(f"a modulus must be a prime below 2^{MAX_PRIME_BITS}")
    try:
        return Basis(degree, list(primes))
    except ValueError as error:
        raise InvalidInput(str(error)) from None


def aligned(shape: tuple[int, ...]) -> Residues:
    """Return an uninitialised array that starts on a cache line.

    A vector that straddles two lines costs two loads; NumPy's own large arrays start 16 bytes
    after a page.
    """
    words = int(np.prod(shape, dtype=np.int64))
    memory = _BUFFERS.take(words + _CACHE_LINE // 4)
    start = -memory.ctypes.data % _CACHE_LINE // 4
    return memory[start : start + words].reshape(shape)


def ntt_forward(values: Residues, primes: tuple[int, ...]) -> Residues:
    """Transform polynomials given by coefficients.

    Parameters
    ----------
    values
        Shape ``(..., len(primes), degree)``, residues below their prime.

    Returns
    -------
    Residues
        New array of the same shape.
    """
    return _transform(values, primes, invert=False)


def ntt_inverse(values: Residues, primes: tuple[int, ...]) -> Residues:
    """Return the coefficients of transformed polynomials; inverse of :func:`ntt_forward`."""
    return _transform(values, primes, invert=True)


def add(left: Residues, right: Residues, primes: tuple[int, ...]) -> Residues:
    """Add residues, shape ``(..., len(primes), degree)`` each, into a new array."""
    return _elementwise(Operation.ADD, left, right, primes)


def subtract(left: Residues, right: Residues, primes: tuple[int, ...]) -> Residues:
    """Subtract residues, shape ``(..., len(primes), degree)`` each, into a new array."""
    return _elementwise(Operation.SUBTRACT, left, right, primes)


def multiply(left: Residues, right: Residues, primes: tuple[int, ...]) -> Residues:
    """Multiply residues, shape ``(..., len(primes), degree)`` each, into a new array."""
    return _elementwise(Operation.MULTIPLY, left, right, primes)


def negate(values: Residues, primes: tuple[int, ...]) -> Residues:
    """Negate residues, shape ``(..., len(primes), degree)``, into a new array."""
    return subtract(np.zeros_like(values), values, primes)


def check_residues(values: Residues, primes: tuple[int, ...], what: str = "array") -> Basis:
    """Check that an array holds residues of these primes, and return the basis.

    Raises
    ------
    InvalidInput
        Not ``uint32``, not C-contiguous, not ``(..., len(primes), degree)``, or a residue that
        is not below its prime.
    """
    check_array(values, what)
    if values.ndim < 2 or values.shape[-2] != len(primes):
        raise InvalidInput(f"{what} has shape {values.shape}, wanted (..., {len(primes)}, degree)")
    ring = basis(values.shape[-1], primes)
    if not ring.below_primes(_flat(values)):
        raise InvalidInput(f"{what} holds a residue that is not below its prime")
    return ring


def check_array(values: Residues, what: str, shape: tuple[int, ...] | None = None) -> None:
    """Check type, contiguity and, where given, the shape of an array.

    Raises
    ------
    InvalidInput
        One of them is wrong.
    """
    if not isinstance(values, np.ndarray) or values.dtype != np.uint32:
        raise InvalidInput(f"{what} is not an array of uint32")
    if not values.flags.c_contiguous:
        raise InvalidInput(f"{what} is not C-contiguous")
    if shape is not None and values.shape != shape:
        raise InvalidInput(f"{what} has shape {values.shape}, wanted {shape}")


def _transform(values: Residues, primes: tuple[int, ...], *, invert: bool) -> Residues:
    ring = check_residues(values, primes)
    out = aligned(values.shape)
    ring.transform(_flat(values), invert, _flat(out))
    return out


def _elementwise(
    operation: Operation, left: Residues, right: Residues, primes: tuple[int, ...]
) -> Residues:
    ring = check_residues(left, primes, "left operand")
    check_array(right, "right operand", left.shape)
    check_residues(right, primes, "right operand")
    out = aligned(left.shape)
    ring.elementwise(operation, _flat(left), _flat(right), _flat(out))
    return out


def _flat(values: Residues) -> Residues:
    """View as ``(count, primes, degree)``."""
    return values.reshape(-1, *values.shape[-2:])
