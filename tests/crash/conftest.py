"""Servers that are killed, and disks that fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.place import Place
from tests.disk_faults import Disk, build
from tests.forked_server import ServerProcesses
from tests.server_harness import make_credentials


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    folder = tmp_path_factory.mktemp("faults")
    return Disk(build(folder), folder / "control")


@pytest.fixture(scope="session")
def place(disk: Disk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("place")
    make_credentials(root / "credentials")
    processes = ServerProcesses(disk.environment, root / "server.log")
    try:
        yield Place(root, processes, disk)
    finally:
        processes.close()
