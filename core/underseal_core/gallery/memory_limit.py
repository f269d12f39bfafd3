"""How much memory this process may use: the machine's, or less in a container or service.

Containers and services run in control groups; beyond the limit of its group, or of one above, the
kernel kills a process, however much the machine has. See the kernel's ``cgroup-v2.rst`` (interface
file ``memory.max``) and ``cgroup-v1/memory.rst`` (``memory.limit_in_bytes``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_OWN_GROUPS: Final = Path("/proc/self/cgroup")
_GROUPS: Final = Path("/sys/fs/cgroup")


def half_of_memory() -> int:
    """Return half of the memory that this process may use, in MiB: the default bound."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return usable_memory(machine, _OWN_GROUPS, _GROUPS) >> 21


def usable_memory(machine: int, own_groups: Path, groups: Path) -> int:
    """Return the bytes that this process may use, at most ``machine``.

    Parameters
    ----------
    machine
        Bytes of the machine's memory.
    own_groups
        The process's ``/proc/self/cgroup``; without it there is no limit.
    groups
        Where control groups are mounted: ``/sys/fs/cgroup``.
    """
    try:
        lines = own_groups.read_text(errors="replace").splitlines()
    except OSError:
        return machine
    return min([machine, *(limit for line in lines for limit in _limits(line, groups))])


def _limits(line: str, groups: Path) -> Iterator[int]:
    """Yield the limits of a group and of those above it, of a line ``number:controllers:path``."""
    _, controllers, path = line.split(":", 2)
    if controllers == "":  # version 2
        root, name = groups, "memory.max"
    elif "memory" in controllers.split(","):
        root, name = groups / "memory", "memory.limit_in_bytes"
    else:
        return
    # In a container the path may be the machine's, and the root the container's own group.
    inside = PurePosixPath(path).relative_to("/")
    for group in (inside, *inside.parents):
        try:
            text = (root / group / name).read_text().strip()
        except OSError:  # it has no limit: a root, or another container's
            continue
        if text.isdecimal():  # or "max"
            yield int(text)
