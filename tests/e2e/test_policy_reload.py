"""Guardians that are told to read their policy again, by a signal."""

from __future__ import annotations

import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.auditor_world import policy_text, write_signed_policy
from tests.guardian_place import Guardians, guardians
from underseal_auditor.policy.document import Policy, load_policy
from underseal_core.errors import Mismatch

PROFILE = "swift"
DEADLINE_SECONDS = 30.0


def reload(made: Guardians, point: int, expected: Policy) -> None:
    """Send the signal and wait until the guardian says that it has the expected policy."""
    made.processes[point].send_signal(signal.SIGHUP)
    until = time.monotonic() + DEADLINE_SECONDS
    with closing(made.connect(point)) as link:
        while link.facts().policy_sha256 != expected.sha256:
            assert time.monotonic() < until


def test_signed_policy_takes_effect_and_an_older_one_does_not_come_back(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    with guardians(tmp_path, 2, 3) as made:
        first = path.read_text()
        write_signed_policy(path, made.of, policy_text(PROFILE, serial=2, top_k=9))
        second = load_policy(path)
        reload(made, 1, second)
        with (
            made.panel(1, 2) as panel,
            made.office(panel) as office,
            pytest.raises(Mismatch, match="guardian 1 has another policy"),
        ):
            office.envelope(made.ask())
        path.write_text(policy_text(PROFILE, serial=3))  # its signatures are for another one
        made.processes[1].send_signal(signal.SIGHUP)
        write_signed_policy(path, made.of, first)
        made.processes[1].send_signal(signal.SIGHUP)
        write_signed_policy(path, made.of, policy_text(PROFILE, serial=4, top_k=9))
        reload(made, 1, load_policy(path))
        made.kill(1)
        write_signed_policy(path, made.of, first)
        made.start(1)
        with pytest.raises(AssertionError, match="the guardian ended"):
            made.ready(1)
