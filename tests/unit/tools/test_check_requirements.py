"""The check of the pinned requirements notices what it is for."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tools.check_requirements import EXTRAS, entries, problems

ROOT = Path(__file__).resolve().parents[3]
PYPROJECT = tomllib.loads(
    """
    [project]
    dependencies = ["alpha>=2", "beta-gamma<3"]
    [project.optional-dependencies]
    server = ["delta"]
    postgres = []
    s3 = []
    [dependency-groups]
    lock = []
    """
)
GOOD = """\
alpha==2.1 \\
    --hash=sha256:00
beta-gamma==2.9 ; sys_platform != 'win32' \\
    --hash=sha256:11 \\
    --hash=sha256:22
delta==1 \\
    --hash=sha256:33
"""


def test_a_fitting_file_has_no_problem() -> None:
    assert list(problems(PYPROJECT, "server", GOOD)) == []
    assert entries(GOOD)["beta-gamma"] == ("2.9", True)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("delta==1 ", "epsilon==1 ", "delta is not pinned"),
        ("alpha==2.1", "alpha==1.9", "alpha==1.9 does not fit alpha>=2"),
        (" \\\n    --hash=sha256:33", "", "delta has no hash"),
        ("alpha==", "--index-url https://example.org\nalpha==", "it names an index or an address"),
    ],
)
def test_each_kind_of_drift_is_named(old: str, new: str, problem: str) -> None:
    assert old in GOOD
    assert list(problems(PYPROJECT, "server", GOOD.replace(old, new))) == [problem]


@pytest.mark.parametrize("file", EXTRAS)
def test_the_committed_files_fit(file: str) -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    text = (ROOT / "requirements" / f"{file}.txt").read_text()
    assert list(problems(pyproject, file, text)) == []
