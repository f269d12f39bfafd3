"""A pytest plugin that writes how every test ended, one JSON object per line.

Loaded with ``-p outcomes --outcomes=FILE``; ``remove_defences.py`` reads the file.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TEXT_LIMIT = 400


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--outcomes``."""
    parser.addoption("--outcomes", type=Path, required=True)


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Write the end of a test's body, and of a set-up or tear-down that failed."""
    if call.when != "call" and call.excinfo is None:
        return
    failed = call.excinfo
    outcome = {
        "test": item.nodeid,
        "phase": call.when,
        "error": "" if failed is None else failed.typename,
        "text": "" if failed is None else str(failed.value)[:TEXT_LIMIT],
    }
    with item.config.getoption("--outcomes").open("a", encoding="utf-8") as file:
        file.write(json.dumps(outcome) + "\n")
