"""Blocks of a gallery, filled in the ways that make the most or the least noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from underseal_core.ring import kernel
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import Evaluator, Probe, tiles_shape
from underseal_core.scheme.profiles import Profile

U32 = npt.NDArray[np.uint32]
F64 = npt.NDArray[np.float64]
Slots = npt.NDArray[np.int64]


def tiles_of(columns: U32, primes: tuple[int, ...]) -> U32:
    """Return a probe's tiles: columns ``(dimension, 2, primes, degree)`` times ``2^32``."""
    high = np.array(primes, dtype=object)[:, None]
    scaled = (columns.astype(object) * 2**32 % high).astype(np.uint32)
    dimension, _, level, degree = columns.shape
    tiled = scaled.reshape(dimension, 2, level, degree // 16, 16)
    return np.ascontiguousarray(tiled.transpose(2, 3, 0, 1, 4))


def laid_out(columns: U32, profile: Profile) -> Probe:
    """A probe of any columns at all."""
    return Probe(tiles_of(columns, profile.data_primes[: profile.gallery_level]))


def bulk_block(evaluator: Evaluator, encryptor: Encryptor, templates: F64) -> U32:
    """One template per slot, by columns."""
    block = np.zeros(tiles_shape(evaluator.profile, evaluator.dimension), dtype=np.uint32)
    for index, column in enumerate(encryptor.encrypt_columns(templates)):
        evaluator.add_column(block, index, column.residues, 0)
    return block


def block_of_rows(
    evaluator: Evaluator, encryptor: Encryptor, rows: Sequence[F64], offsets: Sequence[Slots]
) -> U32:
    """Row ``i`` at all of ``offsets[i]``, each row encrypted once.

    The product with a polynomial of ones at these slots is, bit for bit, the sum of the single
    placements.
    """
    profile = evaluator.profile
    primes = profile.data_primes[: profile.gallery_level]
    block = np.zeros(tiles_shape(profile, evaluator.dimension), dtype=np.uint32)
    for row, slots in zip(rows, offsets, strict=True):
        columns = evaluator.expand(encryptor.encrypt_row(row))
        ones = np.zeros((len(primes), profile.degree), dtype=np.uint32)
        ones[:, slots] = 1
        places = np.broadcast_to(kernel.ntt_forward(ones, primes), columns.shape)
        placed = kernel.multiply(columns, np.ascontiguousarray(places), primes)
        evaluator.add(block, placed, 0)
    return block
