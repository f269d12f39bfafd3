"""Fixtures for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ["tests.face_fixtures", "tests.postgres_fixtures", "tests.s3_fixtures"]

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with photos that may not be committed; the test is skipped where it is absent."""
    folder = Path(os.environ.get("UNDERSEAL_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("needs the shared data folder: set UNDERSEAL_SHARED to it")
    return folder


@pytest.fixture(scope="session")
def portraits(shared: Path) -> Path:
    """Folder with the official portraits and their ``labels.csv``."""
    folder = shared / "data" / "portraits"
    if not (folder / "labels.csv").is_file():
        pytest.skip("the portraits are not there")
    return folder
