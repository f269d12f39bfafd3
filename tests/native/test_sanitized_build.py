"""Says which build the other tests ran on; see sanitize.sh."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from underseal_core.ring import _kernel


def test_the_instrumented_module_is_the_one_tested() -> None:
    if not os.environ.get("UNDERSEAL_SANITIZED"):
        pytest.skip("a normal build; run tests/native/sanitize.sh for the instrumented one")
    path = Path(str(_kernel.__file__))
    assert "sanitize" in path.parts
    assert b"__asan_report_load4" in path.read_bytes()
