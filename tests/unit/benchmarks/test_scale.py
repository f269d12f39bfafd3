"""Waiting for a server whose blocks are on a Ray of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.scale import wait_joined

Server = subprocess.Popen[str]


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """What a server wrote."""
    path = tmp_path / "server.log"
    path.write_text("no such credentials")
    return path


@pytest.fixture
def idle() -> Iterator[Server]:
    """A process that goes on, and says nothing."""
    with subprocess.Popen(["sleep", "600"], text=True) as process:
        yield process
        process.kill()


def test_a_server_that_ends_before_a_shard_joins_is_not_waited_for(said: Path) -> None:
    with subprocess.Popen(["false"], text=True) as process:
        process.wait()
        with pytest.raises(SystemExit, match="ended before a shard joined:\nno such credentials"):
            wait_joined(process, said)


def test_a_shard_is_not_waited_for_without_end(said: Path, idle: Server) -> None:
    with pytest.raises(SystemExit, match="no shard joined in 0.2 s"):
        wait_joined(idle, said, seconds=0.2)
    said.write_text("... shard joined ...")
    wait_joined(idle, said, seconds=0.2)
