"""The machine that a benchmark ran on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class Hardware:
    """Processor, memory and versions. ``load``: processes that ran or waited in the last minute."""

    cpu: str
    cores: int
    machine: str
    system: str
    memory_gb: int
    python: str
    numpy: str
    underseal: str
    load: float

    @property
    def line(self) -> str:
        """For captions."""
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_gb} GB, {self.system} {self.machine}, "
            f"Python {self.python}, load {self.load:.1f} before"
        )


def hardware() -> Hardware:
    """Describe this machine."""
    return Hardware(
        cpu=_processor(),
        cores=cores(),
        machine=platform.machine(),
        system=platform.system(),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        python=platform.python_version(),
        numpy=np.__version__,
        underseal=version("underseal"),
        load=round(os.getloadavg()[0], 2),
    )


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in values.items()}
    avx512 = "avx512f" in fields.get("flags", "").split()
    return fields.get("model name", platform.processor()) + (" (AVX-512)" if avx512 else "")
