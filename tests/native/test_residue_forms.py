"""Every form of the loops that pack residues or combine them one by one finds the same.

As test_forms.py. The module's own form is held to the documented rule of packing by
tests/property/test_packing.py, and to modular arithmetic by tests/property/test_ring_arithmetic.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.native.test_forms import FORMS, compiled_finds
from underseal_core.ring import kernel
from underseal_core.ring.kernel import Residues
from underseal_core.ring.packing import pack

SOURCES = ("elementwise.cpp", "packing.cpp", "tables.cpp")
DEGREE, PRIMES = 256, (268238849, 536690689)
BOUNDS = (*(1 << bits for bits in range(1, 29)), 268238849, 268369921, 536690689)
"""What residues are below: powers of two for widths of 1 to 28 bits, and primes of profiles."""
VALUES = 8 * 13


def residues(rng: np.random.Generator, bounds: tuple[int, ...], values: int) -> Residues:
    """Random residues below each bound, the largest among them; ``(len(bounds), values)``."""
    high = np.array(bounds, dtype=np.uint32)[:, None]
    found = rng.integers(0, high, (len(bounds), values), dtype=np.uint32)
    found = np.where(rng.random(found.shape) < 0.5, found, high - 1)
    found[:, -1] = high[:, 0] - 1
    return np.ascontiguousarray(found)


def packed(planes: Residues) -> bytes:
    """What the module packs, each plane as it must be read, and its largest residue twice."""
    found = b""
    for bound, plane in zip(BOUNDS, planes, strict=True):
        largest = np.full(2, bound - 1, dtype=np.uint32)
        stream = pack(plane[None], (bound,))
        found += stream.tobytes() + plane.tobytes() + largest.tobytes()
    return found


def combined(left: Residues, right: Residues) -> bytes:
    """What the module adds, subtracts and multiplies."""
    found = b""
    for a, b, prime in zip(left, right, PRIMES, strict=True):
        for operation in (kernel.add, kernel.subtract, kernel.multiply):
            found += operation(a[None], b[None], (prime,)).tobytes()
    return found


@pytest.mark.parametrize("form", FORMS)
def test_forms_agree(form: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(13)
    planes = residues(rng, BOUNDS, VALUES)
    left, right = residues(rng, PRIMES, DEGREE), residues(rng, PRIMES, DEGREE)
    given = [np.array((len(BOUNDS), VALUES), dtype=np.uint32)]
    for bound, plane in zip(BOUNDS, planes, strict=True):
        given += [np.array((bound,), dtype=np.uint32), plane]
    given.append(np.array((DEGREE, len(PRIMES), *PRIMES), dtype=np.uint32))
    given += [row for pair in zip(left, right, strict=True) for row in pair]
    found = compiled_finds(form, tmp_path, "residue_forms", SOURCES, given)
    assert found == packed(planes) + combined(left, right)
