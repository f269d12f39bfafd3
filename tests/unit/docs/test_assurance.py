"""The assurance page names tests that exist, and every attack that is tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.remove_defences import load

ROOT = Path(__file__).resolve().parents[3]
PAGES = ["docs/assurance.md", "SECURITY.md"]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def named(page: str) -> list[tuple[str, str]]:
    """File and function of every test that a page names; no function is the whole file."""
    return NAMED.findall((ROOT / page).read_text(encoding="utf-8"))


def functions_of(path: Path) -> set[str]:
    return set(re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.M))


@pytest.mark.parametrize("page", PAGES)
def test_evidence_is_there(page: str) -> None:
    found = named(page)
    for file, function in found:
        assert (ROOT / file).is_file(), file
        assert not function or function in functions_of(ROOT / file), f"{file}::{function}"
    assert found or page != "docs/assurance.md"


def test_every_attack_is_named() -> None:
    found = named("docs/assurance.md")
    for path in sorted((ROOT / "tests" / "adversarial").glob("test_*.py")):
        file = path.relative_to(ROOT).as_posix()
        functions = {function for name, function in found if name == file}
        missing = set() if "" in functions else functions_of(path) - functions
        assert not missing, f"docs/assurance.md does not name {missing} of {file}"


def test_every_attack_shows_that_its_defence_is_needed() -> None:
    """Each file of attacks has at least one entry in the list of defences."""
    used = {test.split("::")[0] for defence in load(ROOT) for test in defence.tests}
    for path in (ROOT / "tests" / "adversarial").glob("test_*.py"):
        assert path.relative_to(ROOT).as_posix() in used, path.name
