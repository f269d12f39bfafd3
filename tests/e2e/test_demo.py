"""``underseal demo`` as a user runs it."""

from __future__ import annotations

import json
import os
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
    assert_nothing_readable(folder)
    assert_log_names_nobody(folder / "log")


def assert_log_names_nobody(folder: Path) -> None:
    (bundle,) = (folder / "tiles" / "tile" / "entries" / "000.p").glob("9")
    content = bundle.read_bytes()
    assert content.count(b'"purpose":"demonstration"') == 8
    secrets = [b"person_", b"group_", b"impostor_", b"synthetic_", b".jpg", b"DEMO-1", b"score"]
    assert [secret for secret in secrets if secret in content] == []


def assert_nothing_readable(folder: Path) -> None:
    """The server's files and logs hold no name, no case and no photo's name."""
    secrets = [b"person_a", b"group_1", b"impostor_1", b"synthetic_", b"t1.jpg", b"DEMO-1"]
    files = [path for path in (folder / "server-data").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) > 100_000_000
    for path in [*files, folder / "server.log"]:
        content = path.read_bytes()
        assert [secret for secret in secrets if secret in content] == [], path


def test_demo_that_is_stopped_ends_every_process(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    demo = subprocess.Popen(
        [find_program("underseal"), "demo", "--keep", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (folder / "auditor.log").exists():  # server and registrar are started by then
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
