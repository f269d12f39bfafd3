"""Engine, service and peers in one run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as everything

KILLED = """#!/bin/sh
[ "$2" = benchmarks.peers ] && kill -KILL $$
exit 0
"""


def test_a_program_that_a_signal_ended_fails_the_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(KILLED)
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--out", str(tmp_path / "results")])
    assert everything.main() == 1
    assert not (tmp_path / "results" / "report.md").exists()
