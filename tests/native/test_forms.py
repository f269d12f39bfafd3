"""Every form of the scoring loops finds the same, bit for bit.

The module has loops for AVX-512, AVX2 and any machine, and runs the best of them here. The others
are compiled apart, from the same sources, and given the same inputs. What other platforms run is
the plainest of them; it is compiled for ARM as well, and run in an emulator.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.oracles.blocks import tiles_of
from underseal_core.ring import _kernel, kernel
from underseal_core.ring.kernel import Residues

RING = Path(__file__).resolve().parents[2] / "core" / "underseal_core" / "ring"
SOURCES = ("basis.cpp", "blocks.cpp", "ntt.cpp", "products.cpp", "score.cpp", "tables.cpp")
DEGREE, DIMENSION, PROBES, BLOCKS = 64, 200, 5, 3
PRIMES = (268238849, 536690689)
FORMS = {
    "any": ("-DUNDERSEAL_PLAIN", "-DUNDERSEAL_LANES=1"),
    "x86-64-v3": ("-DUNDERSEAL_PLAIN", "-DUNDERSEAL_LANES=8", "-march=x86-64-v3"),
    "aarch64": ("-static",),
}
"""Form -> options of the compiler. ``aarch64`` is built as ARM's own users build it."""


def columns(rng: np.random.Generator) -> Residues:
    """Random columns, with the largest residues among them."""
    high = np.array(PRIMES, dtype=np.uint32)[None, None, :, None]
    shape = (DIMENSION, 2, len(PRIMES), DEGREE)
    values = rng.integers(0, high, shape, dtype=np.uint32)
    return np.ascontiguousarray(np.where(rng.random(shape) < 0.5, values, high - 1))


def module(probes: list[Residues], blocks: list[Residues]) -> bytes:
    """What the module finds."""
    ring = kernel.basis(DEGREE, PRIMES)
    shape = (len(PRIMES), DEGREE // 16, DIMENSION, 2, 16)
    total = shape[0] * shape[1]
    right = [np.zeros(shape, dtype=np.uint32) for _ in blocks]
    for k, (given, tiles) in enumerate(zip(blocks, right, strict=True)):
        _kernel.place(ring, given, 0, _kernel.Power(ring, len(PRIMES), k), tiles, 0, total)
    out = np.empty((len(probes), len(blocks), 3, len(PRIMES), DEGREE), dtype=np.uint32)
    _kernel.score(ring, probes, right, out, 0, total)
    return out.tobytes()


def toolchain(form: str) -> tuple[str, list[str]]:
    """The compiler of a form and what runs its programs; the test is skipped without them."""
    if form == "x86-64-v3" and platform.machine() != "x86_64":
        pytest.skip("instructions of another processor")
    wanted = [os.environ.get("CXX", "c++")]
    if form == "aarch64":
        wanted = ["aarch64-linux-gnu-g++", "qemu-aarch64"]
    found = [path for path in map(shutil.which, wanted) if path is not None]
    if len(found) < len(wanted):
        pytest.skip(f"needs {' and '.join(wanted)}")
    return found[0], found[1:]


def compiled_finds(
    form: str, folder: Path, program: str, sources: Sequence[str], given: Sequence[Residues]
) -> bytes:
    """What a program of this folder finds, compiled with these sources; the test may be skipped.

    ``given``: 32-bit words that it reads, one array after the other.
    """
    if os.environ.get("UNDERSEAL_SANITIZED"):
        pytest.skip("the other forms are built without sanitisers")
    compiler, emulator = toolchain(form)
    if form == "x86-64-v3" and "avx2" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        pytest.skip("this processor has no AVX2")
    built = folder / program
    options = ("-O3", "-std=c++17", f"-I{RING}")
    files = [Path(__file__).with_name(f"{program}.cpp"), *(RING / name for name in sources)]
    subprocess.run([compiler, *options, *FORMS[form], *files, "-o", built], check=True)
    words = np.concatenate([array.ravel() for array in given]).astype(np.uint32)
    command = [*emulator, str(built)]
    return subprocess.run(command, input=words.tobytes(), capture_output=True, check=True).stdout


@pytest.mark.parametrize("form", FORMS)
def test_forms_agree(form: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    probes = [tiles_of(columns(rng), PRIMES) for _ in range(PROBES)]
    blocks = [columns(rng) for _ in range(BLOCKS)]
    head = np.array((DEGREE, len(PRIMES), *PRIMES, DIMENSION, PROBES, BLOCKS), dtype=np.uint32)
    found = compiled_finds(form, tmp_path, "forms", SOURCES, [head, *probes, *blocks])
    assert found == module(probes, blocks)
