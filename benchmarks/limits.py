"""The limits of this machine, from small native loops: reading memory, and multiplying."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_core.ring.kernel import Residues

SOURCE: Final = Path(__file__).with_suffix(".cpp")
ROUNDS: Final = 1_000_000
"""Of multiplications: a few milliseconds."""


class Limits:
    """Runs the loops on some threads; a context manager.

    Raises
    ------
    FileNotFoundError
        There is no C++ compiler.
    """

    def __init__(self, threads: int) -> None:
        compiler = shutil.which(os.environ.get("CXX", "c++"))
        if compiler is None:
            raise FileNotFoundError("the limits of the machine need a C++ compiler: set CXX")
        self._threads = threads
        self._folder = tempfile.TemporaryDirectory()
        library = Path(self._folder.name) / "limits.so"
        options = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-Wno-psabi", "-w")
        include = f"-I{SOURCE.parents[1]}"
        subprocess.run([compiler, *options, include, str(SOURCE), "-o", str(library)], check=True)
        self._native = ctypes.CDLL(str(library))
        self._native.multiply.argtypes = [ctypes.c_size_t]
        self._native.multiply.restype = ctypes.c_size_t
        self._native.stream.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._native.stream.restype = ctypes.c_uint64
        self._pool = ThreadPoolExecutor(threads)

    def stream(self, blocks: Sequence[Residues]) -> None:
        """Read the blocks once, each thread its part of every one."""
        parts = [part for block in blocks for part in np.array_split(block.ravel(), self._threads)]
        list(self._pool.map(self._read, parts))

    def _read(self, part: Residues) -> None:
        self._native.stream(part.ctypes.data, part.nbytes // 8)

    def multiply(self) -> int:
        """Multiply on all threads; return how many products of words were added up."""
        return sum(self._pool.map(self._native.multiply, [ROUNDS] * self._threads))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._folder.cleanup()
