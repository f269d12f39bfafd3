"""Scores of the native code against sums in whole numbers, in every order it multiplies in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from underseal_core.ring import _kernel, kernel
from underseal_core.ring.kernel import Residues

U64 = npt.NDArray[np.uint64]

DEGREE = 32
WIDE = (536690689, 536641537)  # products of 58 bits: few may be added before they are folded
NARROW = (66994177, 67043329)  # products of 52 bits: a thousand may
WORD = 1 << 32


def tiles(
    rng: np.random.Generator, primes: tuple[int, ...], count: int, dimension: int
) -> list[Residues]:
    """Random blocks."""
    shape = (count, len(primes), DEGREE // 16, dimension, 2, 16)
    high = np.array(primes, dtype=np.uint32)[None, :, None, None, None, None]
    return list(rng.integers(0, high, shape, dtype=np.uint32))


def wanted(probe: Residues, block: Residues, primes: tuple[int, ...]) -> Residues:
    """Sum of the tensor products, divided by 2^32: shape (3, primes, DEGREE)."""
    out = np.empty((3, len(primes), DEGREE), dtype=np.uint32)
    for i, p in enumerate(primes):
        left, right = probe[i].astype(np.uint64), block[i].astype(np.uint64)
        (a, b), (c, d) = ((x[:, :, 0], x[:, :, 1]) for x in (left, right))
        parts = (_sum(a * c, p), _sum(a * d, p) + _sum(b * c, p), _sum(b * d, p))
        for k, part in enumerate(parts):
            out[k, i] = part % np.uint64(p) * np.uint64(pow(WORD, -1, p)) % np.uint64(p)
    return out


def _sum(products: U64, p: int) -> U64:
    total: U64 = (products % np.uint64(p)).sum(axis=1).reshape(-1)
    return total


def scores(
    primes: tuple[int, ...], probes: list[Residues], blocks: list[Residues]
) -> npt.NDArray[np.uint32]:
    """What the kernel finds; its memory holds rubbish before."""
    out = np.full((len(probes), len(blocks), 3, len(primes), DEGREE), 0xDEADBEEF, dtype=np.uint32)
    ring = kernel.basis(DEGREE, primes)
    total = len(primes) * DEGREE // 16
    for begin in range(0, total, 3):  # pieces that end within a prime and across two
        _kernel.score(ring, probes, blocks, out, begin, min(begin + 3, total))
    return out


@pytest.mark.parametrize("primes", [WIDE, NARROW])
@pytest.mark.parametrize(
    ("probes", "blocks", "dimension"),
    [
        (1, 1, 2),
        (1, 1, 1024),
        (1, 5, 64),  # two blocks at once, and one that is left
        (2, 3, 40),
        (3, 1, 33),  # strips of 32 dimensions, and one that is left
        (3, 2, 128),
        (5, 7, 100),
        (17, 33, 32),  # more than one pass has room for
        (33, 2, 64),
    ],
)
def test_scores_are_exact(
    primes: tuple[int, ...], probes: int, blocks: int, dimension: int
) -> None:
    rng = np.random.default_rng(probes * 1000 + blocks)
    left = tiles(rng, primes, probes, dimension)
    right = tiles(rng, primes, blocks, dimension)
    found = scores(primes, left, right)
    for a, b in {(0, 0), (probes - 1, blocks - 1), (probes // 2, blocks // 2), (probes - 1, 0)}:
        np.testing.assert_array_equal(found[a, b], wanted(left[a], right[b], primes))


@pytest.mark.parametrize("primes", [WIDE, NARROW])
@pytest.mark.parametrize("probes", [1, 2, 4])
def test_the_largest_residues_do_not_overflow(primes: tuple[int, ...], probes: int) -> None:
    largest = np.array(primes, dtype=np.uint32)[:, None, None, None, None] - 1
    tile = np.ascontiguousarray(np.broadcast_to(largest, (len(primes), DEGREE // 16, 1024, 2, 16)))
    found = scores(primes, [tile] * probes, [tile] * 2)
    for result in found.reshape(-1, 3, len(primes), DEGREE):
        np.testing.assert_array_equal(result, wanted(tile, tile, primes))


def test_every_pair_of_a_batch_is_what_it_is_alone() -> None:
    rng = np.random.default_rng(5)
    left, right = tiles(rng, WIDE, 19, 48), tiles(rng, WIDE, 35, 48)
    together = scores(WIDE, left, right)
    for a, probe in enumerate(left):
        for b, block in enumerate(right):
            alone = scores(WIDE, [probe], [block])
            np.testing.assert_array_equal(together[a, b], alone[0, 0])
