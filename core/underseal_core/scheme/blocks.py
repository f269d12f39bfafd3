"""Gallery blocks: up to ``degree`` encrypted templates, laid out for streaming (scheme.md, 4).

A block is tile-major: ``(gallery_level, degree / 16, dimension, 2, 16)``. Templates are added and
removed by adding and subtracting columns times a monomial, which is exact: what was added and then
subtracted leaves no trace in any bit.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from underseal_core.errors import InvalidInput
from underseal_core.ring import _kernel
from underseal_core.ring.kernel import LANES, Operation, Residues, basis, check_array

if TYPE_CHECKING:
    from underseal_core.scheme.profiles import Profile
    from underseal_core.scheme.workers import Workers

_PIECES_PER_THREAD = 4


def tiles_shape(profile: Profile, dimension: int) -> tuple[int, int, int, int, int]:
    """Shape of a block: prime, tile, dimension, component, coefficient within the tile."""
    return (profile.gallery_level, profile.degree // LANES, dimension, 2, LANES)


def columns_shape(profile: Profile, dimension: int) -> tuple[int, int, int, int]:
    """Shape of the columns of one row: dimension, component, prime, coefficient."""
    return (dimension, 2, profile.gallery_level, profile.degree)


def tile_pieces(profile: Profile, threads: int) -> list[tuple[int, int]]:
    """Cut the tiles of a block into ranges, a few per thread."""
    total = profile.gallery_level * profile.degree // LANES
    count = 1 if threads == 1 else threads * _PIECES_PER_THREAD
    edges = [total * i // count for i in range(count + 1)]
    return list(pairwise(edges))


def place(
    tiles: Residues, columns: Residues, first: int, power: int, profile: Profile, workers: Workers
) -> None:
    """Add ``X^power * columns`` to dimensions ``first`` onwards of a block, in place.

    Parameters
    ----------
    tiles
        Shape :func:`tiles_shape`; may be a memory map.
    columns
        Shape ``(count, 2, gallery_level, degree)``, residues below their primes.
    power
        Counts modulo ``2 * degree``; ``X^degree`` is -1.
    """
    check_array(tiles, "block", tiles_shape(profile, tiles.shape[2] if tiles.ndim == 5 else 0))
    if not tiles.flags.writeable:
        raise InvalidInput("block is read-only")
    check_array(columns, "columns", (len(columns), 2, profile.gallery_level, profile.degree))
    if not 0 <= first <= tiles.shape[2] - len(columns):
        raise InvalidInput("columns reach outside the block's dimensions")
    ring = gallery_basis(profile)
    plain = np.asarray(tiles)
    factor = _kernel.Power(ring, profile.gallery_level, power % (2 * profile.degree))

    def work(piece: tuple[int, int]) -> None:
        _kernel.place(ring, columns, first, factor, plain, *piece)

    workers.run(work, tile_pieces(profile, workers.threads))


def merge(tiles: Residues, other: Residues, profile: Profile, workers: Workers) -> None:
    """Add ``other`` to a block of the same shape in place; residues below their primes."""
    if not tiles.flags.writeable:
        raise InvalidInput("block is read-only")
    plain, summand = np.asarray(tiles), np.asarray(other)

    def work(piece: tuple[int, slice]) -> None:
        level, part = piece
        # One prime at a time, its tiles are rows of that ring, whatever their order.
        ring = basis(profile.degree, (profile.data_primes[level],))
        left, right = (x[level, part].reshape(-1, 1, profile.degree) for x in (plain, summand))
        ring.elementwise(Operation.ADD, left, right, left)

    whole = tiles.shape[1]
    parts = 1 if workers.threads == 1 else _PIECES_PER_THREAD
    edges = [whole * i // parts for i in range(parts + 1)]
    pieces = [(i, slice(*edge)) for i in range(len(plain)) for edge in pairwise(edges)]
    workers.run(work, pieces)


def gallery_basis(profile: Profile) -> _kernel.Basis:
    """Return the kernel's tables for the gallery's primes."""
    return basis(profile.degree, profile.data_primes[: profile.gallery_level])
