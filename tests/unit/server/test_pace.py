"""What is remembered of how long searches take."""

from __future__ import annotations

import time

import pytest

from underseal_server.engine.pace import Pace


def test_where_nobody_waits_is_remembered_apart_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pace = Pace()
    assert pace.unhurried == pace.alone == 0.0
    pace.expanded(3.0)
    pace.scored(1, 1.0)
    assert pace.unhurried == pace.alone == 4.0
    for seconds in (1.0, 9.0, 2.0):
        pace.expanded(seconds, quiet=True)
    assert pace.unhurried == 2.0 + 1.0
    pace.scored(4, 6.0, quiet=True)  # of several: says nothing of one
    for _ in range(9):
        pace.expanded(5.0)
        pace.scored(1, 2.0)
    assert pace.alone == 7.0
    assert pace.unhurried == 2.0 + 2.0
    later = time.monotonic() + 601
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert pace.unhurried == pace.alone
