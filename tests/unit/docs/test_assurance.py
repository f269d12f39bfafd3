"""The assurance page: its tests exist, its attacks need their defences, its claims are made."""

from __future__ import annotations

import re
from pathlib import Path

from tools.remove_defences import load

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "assurance.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("## The attacks")[2].partition("\n## ")[0]
ATTACKS = sorted((ROOT / "tests" / "adversarial").glob("test_*.py"))
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
IN_BRACKETS = re.compile(r"`(test_\w+)`")
"""A function of the file that is named before the brackets."""


def functions_of(path: Path) -> set[str]:
    return set(re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.M))


def named() -> set[str]:
    """Every function that the page names, as ``file::function``."""
    found, file = set(), ""
    for mark in re.finditer(f"{NAMED.pattern}|{IN_BRACKETS.pattern}", PAGE):
        file = mark[1] or file
        function = mark[2] or mark[3]
        if function:
            found.add(f"{file}::{function}")
    return found


def in_the_list() -> set[str]:
    """Every function that the list of defences names."""
    return {test.partition("[")[0] for defence in load(ROOT) for test in defence.tests}


def test_evidence_is_there() -> None:
    for file in {file for file, _ in NAMED.findall(PAGE)}:
        assert (ROOT / file).is_file(), file
    for file, _, function in (name.partition("::") for name in named()):
        assert function in functions_of(ROOT / file), f"{file}::{function}"


def test_every_attack_is_named_or_needs_its_defence() -> None:
    """A file alone stands for all of its tests in the table of attacks only."""
    known = named() | in_the_list()
    whole = {file for file, function in NAMED.findall(TABLE) if not function}
    for path in ATTACKS:
        file = path.relative_to(ROOT).as_posix()
        assert f"`{file}" in TABLE, f"the table of attacks does not name {file}"
        missing = {name for name in functions_of(path) if f"{file}::{name}" not in known}
        assert file in whole or not missing, f"docs/assurance.md does not name {missing} of {file}"


def test_every_row_has_a_test_that_fails_without_its_defence() -> None:
    listed = in_the_list()
    rows = [row for row in TABLE.splitlines() if row.startswith("|")][2:]
    assert len(rows) > 30
    for row in rows:
        names = {f"{file}::{function}" for file, function in NAMED.findall(row)}
        files = {name.partition("::")[0] for name in names if name.endswith("::")}
        assert names & listed or files & {test.partition("::")[0] for test in listed}, row


def test_every_attack_shows_that_its_defence_is_needed() -> None:
    """Each file of attacks has at least one entry in the list of defences."""
    used = {test.partition("::")[0] for test in in_the_list()}
    for path in ATTACKS:
        assert path.relative_to(ROOT).as_posix() in used, path.name


def test_every_claim_of_the_security_page_is_argued() -> None:
    security = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    claimed = security.partition("## What is claimed")[2].partition("## Parameters")[0]
    claims = set(re.findall(r"^\*\*([^*]+)\*\*", claimed, re.M))
    lines = re.findall(r"^\*\*Claims\.\*\* (.+)$", PAGE, re.M)
    argued = {text for line in lines for text in re.findall(r'"([^"]+)"', line)}
    assert len(claims) > 12
    assert claims == argued
