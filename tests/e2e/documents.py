"""Runs the commands of a document, as written, in an empty folder.

Blocks are fenced with ``sh`` and say in the same line what becomes of them: ``background NAME``
starts a service and waits until it is ready, ``stop NAME`` ends it, ``restart NAME`` starts it
again with the same commands; ``together`` blocks that follow each other run at once; ``fails CODE``
must end so; ``repository`` and ``folder`` are for people.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sysconfig
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.face_fixtures import FACES

BLOCK = re.compile(r"^```sh ?(\w*) ?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+")
READY = re.compile(r"^(guardian \d+|listening) on ")
SECONDS = 120


def free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]


@dataclass
class Shell:
    """A folder, what was exported so far, and the services that run."""

    folder: Path
    exports: str = ""
    services: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    started: dict[str, str] = field(default_factory=dict)

    def start(
        self, commands: str, errors: int | IO[str] = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        scripts = sysconfig.get_path("scripts")
        return subprocess.Popen(
            ["bash", "-e", "-c", self.exports + commands],
            cwd=self.folder,
            env={
                **os.environ,
                "PHOTOS": str(FACES),
                "PATH": f"{scripts}:{os.environ['PATH']}",
                "COLUMNS": "120",
            },
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )

    def run(self, commands: str, expected: int) -> str:
        """Run to the end and return what was printed."""
        output = self.end(self.start(commands), commands, expected)
        self.exports += "".join(re.findall(r"^export .*\n", commands, re.MULTILINE))
        return output

    def run_together(self, blocks: list[str]) -> str:
        running = [(self.start(commands), commands) for commands in blocks]
        return "".join(self.end(process, commands, 0) for process, commands in running)

    def end(self, process: subprocess.Popen[str], commands: str, expected: int) -> str:
        try:
            output, errors = process.communicate(timeout=SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == expected, commands + output + errors
        return output + errors

    def serve(self, name: str, commands: str) -> None:
        assert name not in self.services, name
        self.started[name] = commands
        errors = self.folder / f"{name}.stderr"
        with errors.open("a") as file:
            self.services[name] = process = self.start(commands, file)
        assert process.stdout is not None
        assert READY.match(process.stdout.readline()), commands + errors.read_text()

    def stop(self, name: str) -> None:
        process = self.services.pop(name)
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)

    def restart(self, name: str) -> None:
        if name in self.services:
            self.stop(name)
        self.serve(name, self.started[name])

    def stop_all(self) -> None:
        for name in list(self.services):
            self.stop(name)


def run_document(path: Path, folder: Path) -> str:
    """Run every block, on ports that are free, and return all that was printed."""
    text = path.read_text()
    written = sorted(set(PORT.findall(text)))
    ports = dict(zip(written, free_ports(len(written)), strict=True))
    blocks = BLOCK.findall(PORT.sub(lambda match: ports[match[0]], text))
    shell, said, together = Shell(folder), [], list[str]()
    try:
        for kind, name, commands in blocks:
            if together and kind != "together":
                said.append(shell.run_together(together))
                together = []
            match kind:
                case "repository" | "folder":  # the test's own environment and folder
                    continue
                case "together":
                    together.append(commands)
                case "background":
                    shell.serve(name, commands)
                case "stop":
                    shell.stop(name)
                case "restart":
                    shell.restart(name)
                case "fails":
                    said.append(shell.run(commands, int(name)))
                case _:
                    assert not kind, kind
                    said.append(shell.run(commands, 0))
    finally:
        shell.stop_all()
    return "".join(said)
