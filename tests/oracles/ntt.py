"""A slow number-theoretic transform in SEAL's convention, independent of the kernel.

Position ``i`` of the output is the value at ``psi^(2*brv(i)+1)``, ``psi`` the smallest primitive
``2N``-th root of unity. Textbook Cooley-Tukey (Longa and Naehrig, ePrint 2016/504, algorithm 1)
on whole numpy arrays with a full reduction after every step.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]


@cache
def smallest_root(degree: int, prime: int) -> int:
    """Smallest primitive ``2 * degree``-th root of unity, by exhaustion of all of them."""
    order = 2 * degree
    for base in range(2, prime):
        root = pow(base, (prime - 1) // order, prime)
        if pow(root, degree, prime) == prime - 1:
            break
    square = root * root % prime
    candidates = []
    for _ in range(degree):
        candidates.append(root)
        root = root * square % prime
    return min(candidates)


def bit_reversed(index: int, bits: int) -> int:
    return int(format(index, f"0{bits}b")[::-1], 2)


@cache
def _powers(degree: int, prime: int, root: int) -> U64:
    bits = degree.bit_length() - 1
    values = [pow(root, bit_reversed(i, bits), prime) for i in range(degree)]
    return np.array(values, dtype=np.uint64)


def forward(values: U32, prime: int) -> U32:
    """Transform the last axis."""
    degree = values.shape[-1]
    powers = _powers(degree, prime, smallest_root(degree, prime))
    data = values.astype(np.uint64).reshape(-1, degree)
    blocks = 1
    while blocks < degree:
        view = data.reshape(-1, blocks, 2, degree // (2 * blocks))
        twisted = view[:, :, 1] * powers[blocks : 2 * blocks, None] % prime
        upper = (view[:, :, 0] + twisted) % prime
        lower = (view[:, :, 0] + prime - twisted) % prime
        data = np.stack((upper, lower), axis=2).reshape(-1, degree)
        blocks *= 2
    return data.reshape(values.shape).astype(np.uint32)


def inverse(values: U32, prime: int) -> U32:
    """Invert :func:`forward`."""
    degree = values.shape[-1]
    powers = _powers(degree, prime, smallest_root(degree, prime))
    inverses = np.array([pow(int(p), -1, prime) for p in powers], dtype=np.uint64)
    data = values.astype(np.uint64).reshape(-1, degree)
    blocks = degree // 2
    while blocks:
        view = data.reshape(-1, blocks, 2, degree // (2 * blocks))
        upper = (view[:, :, 0] + view[:, :, 1]) % prime
        difference = (view[:, :, 0] + prime - view[:, :, 1]) % prime
        lower = difference * inverses[blocks : 2 * blocks, None] % prime
        data = np.stack((upper, lower), axis=2).reshape(-1, degree)
        blocks //= 2
    data = data * pow(degree, -1, prime) % prime
    return data.reshape(values.shape).astype(np.uint32)
