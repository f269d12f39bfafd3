"""``underseal demo`` as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from underseal_client.demo.process import find_program

GALLERY = 3 + 6 + 20_000
LIMIT_SECONDS = 120.0


def processes_below(folder: Path) -> list[str]:
    """Command lines of running processes that name ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(folder) in command:
                found.append(command)
    return found


def test_demo_finds_everyone_and_leaves_nothing_running(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    done = subprocess.run(
        [find_program("underseal"), "demo", "--json", "--keep", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report) == {
        "gallery",
        "searches",
        "correct",
        "total",
        "seconds",
    }
    assert report["seconds"]["verify_log"] > 0
    log = folder / "log"
    inputs = ["--log-key", str(log / "log.vkey"), "--bundle", str(folder / "keys" / "bundle.usb")]
    verified = subprocess.run(
        [find_program("underseal-auditor"), "log", "verify", str(log), *inputs, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    # The policy; intent and outcome of each search.
    assert json.loads(verified.stdout)["size"] == 1 + 2 * 4
    assert report["gallery"] == GALLERY
    assert (report["correct"], report["total"]) == (4, 4)
    expected = {entry["probe"]: entry["expected"] for entry in report["searches"]}
    assert expected == {
        "person_a_2.jpg": ["person_a"],
        "person_b_2.jpg": ["person_b"],
        "group_1, blurred copy": ["group_1"],
        "impostor_2.jpg": [],
    }
    for entry in report["searches"]:
        assert set(entry) == {"probe", "expected", "released", "ok"}
        assert (entry["released"], entry["ok"]) == (entry["expected"], True)
    assert all(value > 0 for value in report["seconds"].values())
    assert processes_below(folder) == []
    assert_nothing_readable(folder, stored_bytes=100_000_000)
    assert_log_names_nobody(folder / "log", searches=4)


def assert_log_names_nobody(folder: Path, searches: int) -> None:
    bundles = (folder / "tiles" / "tile" / "entries" / "000.p").iterdir()
    content = max(bundles, key=lambda path: int(path.name)).read_bytes()
    assert content.count(b'"purpose":"demonstration"') == 2 * searches
    secrets = [b"person_", b"group_", b"impostor_", b"synthetic_", b".jpg", b"DEMO-1", b"score"]
    assert [secret for secret in secrets if secret in content] == []


def assert_nothing_readable(folder: Path, stored_bytes: int) -> None:
    """The server's files and logs hold no name, no case and no photo's name."""
    secrets = [b"person_a", b"group_1", b"impostor_1", b"synthetic_", b"t1.jpg", b"DEMO-1"]
    files = [path for path in (folder / "server-data").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) > stored_bytes
    for path in [*files, folder / "server.log"]:
        content = path.read_bytes()
        assert [secret for secret in secrets if secret in content] == [], path


def demo(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [find_program("underseal"), "demo", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100"},
    )


@pytest.mark.timeout(600)
def test_demo_of_three_guardians_tells_what_happens(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    done = demo("--guardians", 3, "--threshold", 2, "--keep", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = re.sub(r" +$", "", done.stdout, flags=re.MULTILINE)
    told = re.sub(r"( 0\.\d)\d\b", r"\1", told)  # noise may move the last digit
    assert re.findall(r"^ *\d+ (.*)  [\d.]+ s$", told, re.MULTILINE) == [
        "The guardians make the keys",
        "They sign the policy",
        "Server, registrar and guardians start",
        "The client enrols encrypted faces",
        "All guardians are there",
        "Guardian 2 is killed",
        "Guardian 3 is killed: too few",
        "Guardian 3 comes back",
        "A purpose that needs a person's approval",
        "An approver signs, and the client asks again",
        "A purpose that the policy does not know",
        "The operator takes everybody out, unseen",
        "Anyone checks the log",
    ]
    outcomes = (
        r"^   (\S+_\d\S*(?:, blurred copy)?) {3,}(\S.*?)(?: {3,}(\S.*)?signed by guardians (.*))?$"
    )
    assert re.findall(outcomes, told, re.MULTILINE) == [
        ("person_a_2.jpg", "person_a 0.6", "", "1, 2"),
        ("impostor_2.jpg", "no match", "", "1, 2"),
        ("person_b_2.jpg", "person_b 0.7", "", "1, 3"),
        ("group_1, blurred copy", "nothing is released", "", ""),
        ("group_1, blurred copy", "group_1 0.8", "", "1, 3"),
        ("person_b_2.jpg", "nothing is released", "", ""),
        ("person_b_2.jpg", "person_b 0.7", "approved by approver, ", "1, 3"),
        ("person_a_2.jpg", "nothing is released", "", ""),
        ("person_a_2.jpg", "nothing is released", "", ""),
    ]
    assert "error: too few guardians can be reached: 1 of the 2 that are needed" in told
    assert "error: the request waits for the approval of 1 person" in told
    assert "error: the policy has no purpose 'marketing'" in told
    assert "error: the server's blocks do not hold what was enrolled in them" in told
    assert "ALARM: server 'server' was caught by rule 'tiles'" in told
    assert told.count("   hint: ") == 4
    assert told.splitlines()[-1].startswith("9 of 9 searches as expected, in ")
    assert processes_below(folder) == []
    assert_nothing_readable(folder, stored_bytes=50_000_000)
    assert_log_names_nobody(folder / "log", searches=5)
    assert_guardians_know_only_the_released(folder, 3)


@pytest.mark.timeout(600)
def test_demo_of_two_guardians_without_a_spare(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    done = demo("--guardians", 2, "--json", "--keep", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["guardians"], report["threshold"]) == (2, 2)
    steps = {step["step"]: step for step in report["steps"]}
    names = ["keys", "policy", "start", "enrol", "search", "too_few", "back"]
    names += ["waiting", "approved", "refused", "tampered", "log"]
    assert list(steps) == names
    assert len(steps["keys"]["fingerprint"].split()) == 16
    assert steps["policy"]["signed_by"] == ["guardian 1", "guardian 2"]
    assert len(set(steps["start"]["services"].values())) == 4
    (busy,) = steps["too_few"]["searches"]
    assert (busy["ok"], busy["signed_by"], "released" in busy) == (True, [], False)
    (again,) = steps["back"]["searches"]
    assert (again["released"], again["signed_by"]) == (["group_1"], [1, 2])
    (approved,) = steps["approved"]["searches"]
    assert (approved["released"], approved["approved_by"]) == (["person_b"], ["approver"])
    (refused,) = steps["refused"]["searches"]
    assert refused["error"] == "the policy has no purpose 'marketing'"
    assert (report["correct"], report["total"]) == (8, 8)
    (alarm,) = steps["log"]["servers_caught"]
    assert (alarm["server"], alarm["rule"]) == ("server", "tiles")
    rows = {row["purpose"]: row for row in steps["log"]["statistics"]}
    assert {name: (row["released"], row["matches"]) for name, row in rows.items()} == {
        "demonstration": (3, 2),
        "detention": (1, 1),
    }
    receipts = sorted((folder / "receipts").iterdir())
    assert len(receipts) == steps["log"]["receipts"] == 2 * 4
    log = folder / "log"
    known = [part for path in receipts for part in ("--known", str(path))]
    inputs = ["--log-key", str(log / "log.vkey"), "--bundle", str(folder / "keys" / "bundle.usb")]
    verified = subprocess.run(
        [find_program("underseal-auditor"), "log", "verify", str(log), *inputs, *known, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(verified.stdout)["root"] == steps["log"]["root"]
    assert processes_below(folder) == []


def assert_guardians_know_only_the_released(folder: Path, count: int) -> None:
    """Guardians keep what they signed; nobody else's name, and nobody's in their logs."""
    others = [b"impostor_", b"synthetic_", b"group_2"]
    released = [b"person_a", b"person_b", b"group_1", b"DEMO-1"]
    for point in range(1, count + 1):
        own = folder / f"guardian-{point}"
        files = [path for path in own.rglob("*") if path.is_file()]
        names = {path.name for path in files}
        assert {"share.sealed", "guardian.sqlite"} <= names
        assert ("label.sealed" in names) == (point == 1)
        for path in files:
            content = path.read_bytes()
            assert [name for name in others if name in content] == [], path
        log = (folder / f"guardian-{point}.log").read_bytes()
        assert log
        assert [name for name in [*others, *released] if name in log] == []


def test_demo_of_impossible_numbers_says_so(tmp_path: Path) -> None:
    for guardians, threshold, said in (
        ("2", "3", "does not fit"),
        ("1", "2", "does not fit"),
        ("4", "2", "two groups"),
    ):
        numbers = ["--guardians", guardians, "--threshold", threshold]
        done = demo(*numbers, "--keep", tmp_path / "kept", cwd=tmp_path)
        assert (done.returncode, said in done.stderr) == (3, True)
        assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("guardians", "running"),
    [(1, "auditor.log"), (3, "guardian-3-ceremony.log")],  # written once all processes run
)
def test_demo_that_is_stopped_ends_every_process(
    guardians: int, running: str, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    demo = subprocess.Popen(
        [find_program("underseal"), "demo", "--keep", folder, "--guardians", str(guardians)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (folder / running).exists():
            assert time.monotonic() < deadline
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"the demo ended with {demo.wait(0.05)}")
        assert processes_below(folder)
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(30) == 128 + signal.SIGTERM
    finally:
        demo.kill()
        demo.wait()
    assert processes_below(folder) == []


def test_demo_without_its_photos_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [find_program("underseal"), "demo", "--photos", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert "--photos" in done.stderr
    taken = subprocess.run(
        [find_program("underseal"), "demo", "--keep", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert taken.returncode == 3
    assert "must not exist" in taken.stderr
