"""What other processes use, as Linux tells it: unlike wall time, it hardly changes under load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def cpu_seconds(process: int) -> float:
    """Return the processor seconds that a process has taken so far, all of its threads."""
    fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mib(process: int) -> int:
    """Return the memory that a process holds."""
    return _memory(process, "VmRSS")


def peak_mib(process: int) -> int:
    """Return the most memory that a process has held."""
    return _memory(process, "VmHWM")


def _memory(process: int, field: str) -> int:
    status = Path(f"/proc/{process}/status").read_text("utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith(field)]
    return int(line.split()[1]) >> 10
