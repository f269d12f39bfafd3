"""A disk that fails on order, for server processes: see ``tests/native/faults.c``.

Layout of the shared page and meaning of the numbers are those of the C file.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shlex
import subprocess
from enum import IntEnum, IntFlag
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "native" / "faults.c"
ALWAYS = 1 << 31


class Action(IntEnum):
    """What happens to the n-th call."""

    OFF = 0
    FAIL = 1
    SHORT = 2
    """Half of the bytes are written, and the program is told so."""
    KILL_BEFORE = 3
    KILL_AFTER = 4
    KILL_AMID = 5
    """Half of the bytes are written."""


class Kind(IntFlag):
    """Calls that change files."""

    WRITE = 1
    SYNC = 2
    RENAME = 4
    CREATE = 8
    UNLINK = 16
    MKDIR = 32
    TRUNCATE = 64
    LINK = 128
    RMDIR = 256
    REOPEN = 512
    """A file that exists is opened for writing."""


EVERY = Kind(1023) & ~Kind.REOPEN
GROWING = Kind.WRITE | Kind.CREATE | Kind.MKDIR | Kind.LINK
"""What needs room."""


class _Control(ctypes.Structure):
    _fields_ = (
        ("action", ctypes.c_uint32),
        ("error", ctypes.c_uint32),
        ("kinds", ctypes.c_uint32),
        ("lasting", ctypes.c_uint32),
        ("left", ctypes.c_int64),
        ("calls", ctypes.c_uint64),
        ("struck", ctypes.c_uint64),
        ("traced", ctypes.c_uint64),
        ("folder", ctypes.c_char * 1024),
        ("trace", ctypes.c_char * 1024),
        ("only", ctypes.c_char * 256),
    )


class Disk:
    """Orders to the processes that were started with :attr:`environment`.

    Parameters
    ----------
    library
        From :func:`build`.
    control
        A file of the test's own.
    """

    def __init__(self, library: Path, control: Path) -> None:
        control.write_bytes(bytes(ctypes.sizeof(_Control)))
        with control.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self._page = _Control.from_buffer(self._memory)
        self.environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "FAULTS_CONTROL": str(control),
        }

    def watch(self, folder: Path, trace: Path | None = None) -> None:
        """Let everything under ``folder`` count, from now on; write to ``trace`` what happens."""
        self.heal()
        self._page.folder = os.fsencode(folder.resolve())
        self._page.trace = os.fsencode(trace.resolve()) if trace else b""
        self._page.traced = 0

    def strike(
        self,
        action: Action,
        nth: int,
        *,
        error: int = 0,
        kinds: Kind = EVERY,
        lasting: bool = False,
        only: str = "",
    ) -> None:
        """Order what happens to the ``nth`` call from now, 1 being the next, or from it on.

        Parameters
        ----------
        error
            The ``errno`` of a failure.
        kinds, only
            The calls that count; those of paths that contain ``only``.
        """
        page = self._page
        page.action = Action.OFF
        page.error, page.kinds, page.lasting = error, kinds, lasting
        page.only = only.encode()
        page.left, page.calls, page.struck = nth, 0, 0
        page.action = action

    def count(self, kinds: Kind = EVERY, only: str = "") -> None:
        """Let nothing happen, and count calls from now on."""
        self.strike(Action.OFF, 0, kinds=kinds, only=only)

    def heal(self) -> None:
        """Let nothing happen any more."""
        self._page.action = Action.OFF

    @property
    def calls(self) -> int:
        """Calls that counted since the last order."""
        return int(self._page.calls)

    @property
    def struck(self) -> int:
        """Calls that were hit since the last order."""
        return int(self._page.struck)

    @property
    def traced(self) -> int:
        """Calls in the trace."""
        return int(self._page.traced)


def build(folder: Path) -> Path:
    """Compile the library; the test is skipped where there is no C compiler for Linux."""
    library = folder / "faults.so"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]
    try:
        subprocess.run([*compiler, *flags, "-o", library, SOURCE, "-ldl"], check=True)
    except FileNotFoundError:
        pytest.skip("needs a C compiler: install one, or set CC")
    return library
