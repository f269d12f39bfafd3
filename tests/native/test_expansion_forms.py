"""Every form of the loops of transforms and key switches finds the same, bit for bit.

As test_forms.py, for the expansion of a row: it takes every one of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.native.test_forms import FORMS, SOURCES, compiled_finds
from underseal_core.ring import _kernel, kernel
from underseal_core.ring.kernel import Residues

DEGREE, LEVELS = 512, 4
PRIMES = (268238849, 268271617, 268369921, 536690689)
EXPANSION = (*SOURCES, "expansion.cpp")


def residues(rng: np.random.Generator, *shape: int, primes: tuple[int, ...]) -> Residues:
    """Random residues, with the largest among them."""
    high = np.array(primes, dtype=np.uint32)[:, None]
    size = (*shape, len(primes), DEGREE)
    values = rng.integers(0, high, size, dtype=np.uint32)
    return np.ascontiguousarray(np.where(rng.random(size) < 0.5, values, high - 1))


def module(row: Residues, keys: list[Residues]) -> bytes:
    """What the module finds."""
    ring = kernel.basis(DEGREE, PRIMES)
    expansion = _kernel.Expansion(ring, keys)
    level = len(PRIMES) - 2
    columns = np.empty((1 << LEVELS, 2, level, DEGREE), dtype=np.uint32)
    expansion.descend(row, 0, 0, LEVELS, columns)
    tiles = np.zeros((level, DEGREE // 16, 1 << LEVELS, 2, 16), dtype=np.uint32)
    expansion.add_rows([row], [_kernel.Power(ring, level, 5)], 0, 0, tiles)
    probe, found = np.empty_like(tiles), columns.tobytes() + tiles.tobytes()
    for check_level in (level, level - 1):
        sums = np.empty((3, check_level, DEGREE), dtype=np.uint32)
        expansion.prepare(row, 0, 0, probe, sums)
        found += probe.tobytes() + sums.tobytes()
    return found


@pytest.mark.parametrize("form", FORMS)
def test_forms_agree(form: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    row = residues(rng, 2, primes=PRIMES[:-1])
    keys = [residues(rng, len(PRIMES) - 1, 2, primes=PRIMES) for _ in range(LEVELS)]
    head = np.array((DEGREE, len(PRIMES), *PRIMES, LEVELS), dtype=np.uint32)
    found = compiled_finds(form, tmp_path, "expansion_forms", EXPANSION, [head, row, *keys])
    assert found == module(row, keys)
