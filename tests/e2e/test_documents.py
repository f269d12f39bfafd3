"""The tutorial's and the how-to's commands, as written, in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.documents import run_document

DOCS = Path(__file__).resolve().parents[2] / "docs"


FOUND = re.compile(
    r"^1 +Person A +0\.6\d +person_a_1.jpg +2026-17 +office, 20\d\d-\d\d-\d\d$", re.MULTILINE
)


def test_tutorial(tmp_path: Path) -> None:
    said = run_document(DOCS / "tutorial.md", tmp_path)
    assert FOUND.search(said)
    assert said.count("no match\n") == 2
    assert "removed 1 template" in said


@pytest.mark.timeout(900)  # a ceremony, a re-sharing, and some forty commands
def test_guardians_by_hand(tmp_path: Path) -> None:
    said = run_document(DOCS / "howto" / "guardians.md", tmp_path)
    words = re.findall(r"^fingerprint +(\S+(?: \S+){15})(?: {3}|$)", said, re.MULTILINE)
    for kind, (planned, *joined) in (("ceremony", words[:4]), ("re-sharing", words[4:])):
        assert len(joined) == 3 and len(set(joined)) == 1
        assert said.count(f"{kind} {planned}: compare") == 3
    assert (
        len(FOUND.findall(said)) == 3
    )  # at first, after a guardian came back, after one was replaced
    assert said.count("no match\n") == 1
    assert "too few guardians can be reached: 1 of the 2 that are needed" in said
    assert re.search(r"^verified$", said, re.MULTILINE)
    assert said.endswith("no server is frozen\n")
