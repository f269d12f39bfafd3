"""The tutorial's commands, as written, in an empty folder."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sysconfig
from contextlib import ExitStack
from pathlib import Path

from tests.face_fixtures import FACES

TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```sh ?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def wait_ready(process: subprocess.Popen[str]) -> None:
    """Wait for the line that a service prints when it is ready."""
    assert process.stdout is not None
    assert process.stdout.readline().startswith("listening on ")


def stop(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)


def test_every_command_does_what_it_says(tmp_path: Path) -> None:
    ports = {"7440": free_port(), "7444": free_port()}
    text = TUTORIAL.read_text()
    for written, used in ports.items():
        text = text.replace(written, used)
    scripts = sysconfig.get_path("scripts")
    environment = {
        **os.environ,
        "PHOTOS": str(FACES),
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "COLUMNS": "120",
    }
    blocks = BLOCK.findall(text)
    assert [kind for kind, _ in blocks].count("background") == 2
    said = ""
    exports = ""
    with ExitStack() as running:
        for kind, commands in blocks:
            if kind in ("repository", "folder"):  # the test's own environment and folder
                continue
            if kind == "background":
                process = subprocess.Popen(
                    ["bash", "-c", commands],
                    cwd=tmp_path,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    start_new_session=True,
                )
                running.callback(stop, process)
                wait_ready(process)
                continue
            done = subprocess.run(
                ["bash", "-e", "-c", exports + commands],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            expected = 5 if kind == "fails" else 0
            assert done.returncode == expected, commands + done.stderr
            said += done.stdout
            exports += "".join(re.findall(r"^export .*\n", commands, re.MULTILINE))
    assert re.search(r"^1 +Person A +0\.6\d +person_a_1.jpg +2026-17$", said, re.MULTILINE)
    assert said.count("no match\n") == 2
    assert "removed 1 template" in said
