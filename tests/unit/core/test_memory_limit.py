"""Half of the memory is half of what the kernel lets this process have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from underseal_core.gallery.memory_limit import half_of_memory, usable_memory

MACHINE = 64 << 30
POD = "kubepods.slice/kubepods-pod1.slice/cri-2.scope"


def usable(folder: Path, own: str | None, files: dict[str, str]) -> int:
    if own is not None:
        (folder / "own").write_text(own)
    for name, text in files.items():
        path = folder / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return usable_memory(MACHINE, folder / "own", folder / "groups")


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"memory.max": "8589934592\n"}, 8 << 30),
        ("0::/\n", {"memory.max": "max\n"}, MACHINE),
        ("0::/\n", {"memory.max": str(MACHINE + 1)}, MACHINE),
        ("0::/\n", {}, MACHINE),
        (f"0::/{POD}\n", {f"{POD}/memory.max": "4096"}, 4096),
        # A limit above holds too, and the smallest of all.
        (f"0::/{POD}\n", {f"{POD}/memory.max": "max", "kubepods.slice/memory.max": "9"}, 9),
        (f"0::/{POD}\n", {f"{POD}/memory.max": "8", "kubepods.slice/memory.max": "9"}, 8),
        # The path is the machine's; the container sees its own group as the root.
        (f"0::/{POD}\n", {"memory.max": "4096"}, 4096),
        ("0::/../other\n", {"memory.max": "4096"}, 4096),
        ("0::/a\n", {"b/memory.max": "4096"}, MACHINE),
    ],
)
def test_version_2(tmp_path: Path, own: str, files: dict[str, str], expected: int) -> None:
    assert usable(tmp_path, own, files) == expected


@pytest.mark.parametrize(
    ("group", "text", "expected"),
    [
        ("", "8589934592\n", 8 << 30),
        (POD, "8589934592\n", 8 << 30),
        ("docker/1", "9223372036854771712\n", MACHINE),  # none: the largest whole pages
        ("docker/1", str(MACHINE + 1), MACHINE),
    ],
)
def test_version_1(tmp_path: Path, group: str, text: str, expected: int) -> None:
    own = f"3:cpuset:/x\n2:memory,hugetlb:/{group}\n1:name=systemd:/\n0::/\n"
    files = {f"memory/{group}/memory.limit_in_bytes": text, "unified/cgroup.procs": "1"}
    assert usable(tmp_path, own, files) == expected


def test_other_controllers_of_version_1_do_not_count(tmp_path: Path) -> None:
    own = "2:memoryless,cpu:/a\n"
    assert usable(tmp_path, own, {"memory/a/memory.limit_in_bytes": "4096"}) == MACHINE


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert usable(tmp_path, None, {"memory.max": "4096"}) == MACHINE


def test_this_machine() -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < half_of_memory() <= machine >> 21
