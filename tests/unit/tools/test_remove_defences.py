"""The tool tells a defence that is needed from one that is not, and both from an idle test."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tools.remove_defences import Edit, Stale, load, main

Entry = dict[str, object]

ROOT = Path(__file__).resolve().parents[3]
DOOR = '''\
"""A door."""

import json


def enter(name, key):
    if name not in ("ada", "bob"):
        raise PermissionError("unknown name")
    if key != "k" + name:
        raise PermissionError("wrong key")
    if key == "kbob" and name != "bob":
        raise PermissionError("bob's key")
    return json.dumps(name)
'''
TESTS = """\
import pytest
from core.door import enter


def test_key():
    with pytest.raises(PermissionError, match="wrong key"):
        enter("ada", "x")


def test_name():
    with pytest.raises(PermissionError, match="unknown name"):
        enter("eve", "keve")


def test_bobs_key():
    with pytest.raises(PermissionError):
        enter("ada", "kbob")


@pytest.mark.parametrize("name", ["ada", "bob"])
def test_answer(name):
    assert enter(name, "k" + name) == f'"{name}"'


@pytest.fixture
def inside():
    return enter("ada", "kada")


def test_inside(inside):
    assert inside
"""
KEY: Entry = {"remove": 'key != "k" + name', "instead": "False", "tests": ["test_key"]}
REFUSE_ALL: Entry = {
    "remove": "    return json.dumps(name)",
    "instead": '    raise OSError("closed")',
}


REWORDED: Entry = {"remove": '"wrong key"', "instead": '"no"', "tests": ["test_key"]}
BOBS_KEY: Entry = {"remove": 'key == "kbob"', "instead": "False", "tests": ["test_bobs_key"]}
NO_IMPORT: Entry = {"remove": "import json", "instead": "import no_such", "tests": ["test_key"]}
NO_JSON: Entry = {"remove": "import json", "instead": "json = None", "tests": ["test_answer"]}

FINDINGS: list[tuple[Entry, bool, str]] = [
    (KEY, True, "attack succeeds"),
    (BOBS_KEY, False, "still passes"),
    ({**KEY, "tests": ["test_key", "test_name"]}, False, "test_name still passes"),
    (REWORDED, False, "shows nothing: another refusal"),
    ({**REWORDED, "backstop": ["another refusal"]}, True, "another refusal"),
    (NO_IMPORT, False, "did not run"),
    (NO_JSON, False, "shows nothing: AttributeError"),
    ({**REFUSE_ALL, "tests": ["test_inside"]}, False, "shows nothing: OSError in setup"),
    ({**REFUSE_ALL, "tests": ["test_answer[ada]"]}, False, "shows nothing: OSError: closed"),
    ({**REFUSE_ALL, "tests": ["test_answer"], "backstop": ["OSError"]}, True, "OSError"),
]


def project(folder: Path, entries: list[Entry]) -> None:
    """Make a project with one module, its tests and a list of defences."""
    files = {"core/door.py": DOOR, "tests/test_door.py": TESTS, "tools/defences.toml": ""}
    for number, entry in enumerate(entries):
        named: Entry = {"id": f"door-{number}", "claim": "shut", "file": "core/door.py", **entry}
        assert isinstance(entry["tests"], list)
        named["tests"] = [f"tests/test_door.py::{test}" for test in entry["tests"]]
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in named.items()]
        files["tools/defences.toml"] += "[[defence]]\n" + "".join(lines)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)


def test_what_each_removal_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # faster
    project(tmp_path, [entry for entry, _, _ in FINDINGS])
    assert main(["--json", "--jobs", "2", "--root", str(tmp_path)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert len(found) == len(FINDINGS)
    for finding, (_, needed, text) in zip(found, FINDINGS, strict=True):
        assert finding["needed"] is needed, finding
        assert text in (finding["ends"] if needed else finding["detail"]), finding
    assert (tmp_path / "core" / "door.py").read_text() == DOOR
    assert main(["--only", "door-0", "--root", str(tmp_path)]) == 0
    assert "1 of 1 defences are needed" in capsys.readouterr().out


@pytest.mark.parametrize("tests", [["test_no_such"], ["test_key", "test_answer[eve]"]])
def test_test_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tests: list[str]
) -> None:
    project(tmp_path, [{**KEY, "tests": tests}])
    assert main(["--root", str(tmp_path)]) == 2
    assert tests[-1].split("[")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("remove", "instead", "text"),
    [
        ("raise", "return", "3 times"),
        ("no such text", "x", "0 times"),
        ("    return json", "    return )", "no Python"),
        ("import json", "import json", "the same"),
    ],
)
def test_text_that_cannot_be_removed(remove: str, instead: str, text: str) -> None:
    with pytest.raises(Stale, match=text):
        Edit(Path("core/door.py"), remove, instead).applied(DOOR)


def test_list_fits_the_tree() -> None:
    """Whoever changes a defence changes its entry; that its tests fail, ``make defences`` shows."""
    for defence in load(ROOT):
        for edit in defence.edits:
            edit.applied((ROOT / edit.file).read_text(encoding="utf-8"))
        for test in defence.tests:
            file, name = test.split("::")
            assert f"def {name.split('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8"), test
