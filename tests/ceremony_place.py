"""Auditors with credentials and folders, and their ceremonies as processes on loopback."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.member_keys import OwnKeys
from underseal_core.credentials import Credentials, Role
from underseal_core.labels import OpeningKey
from underseal_core.scheme.profiles import SWIFT, Profile
from underseal_server.pki import Authority, issue

PROGRAM = Path(sys.executable).with_name("underseal-auditor")
PASSPHRASE = "one for each in real life"
DEADLINE = 120.0
DIMENSION = 16


def command(*arguments: object) -> dict[str, Any]:
    """Run a command with --json and return what it prints."""
    done = subprocess.run(
        [PROGRAM, *map(str, arguments), "--json"],
        check=True,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
    )
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def environment() -> dict[str, str]:
    return {**os.environ, "UNDERSEAL_PASSPHRASE": PASSPHRASE}


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Joining:
    """One member's ``ceremony join``; :meth:`until` waits for a line of its progress."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._lines: queue.Queue[str] = queue.Queue()
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, *self._arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,))
        self._reader.start()

    def until(self, text: str) -> None:
        deadline = time.monotonic() + DEADLINE
        seen: list[str] = []
        while not seen or text not in seen[-1]:
            try:
                seen.append(self._lines.get(timeout=deadline - time.monotonic()))
            except (queue.Empty, ValueError):
                raise AssertionError(f"never saw {text!r} in {seen}") from None

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> tuple[int, str]:
        assert self.process.stdout is not None
        output = self.process.stdout.read()
        code = self.process.wait(timeout=DEADLINE)
        self._reader.join()
        self.process.stdout.close()
        return code, output

    def facts(self) -> dict[str, Any]:
        code, output = self.end()
        assert code == 0, self.rest()
        facts: dict[str, Any] = json.loads(output)
        return facts

    def rest(self) -> str:
        """Return what is left of its stderr, once it ended."""
        lines = []
        while not self._lines.empty():
            lines.append(self._lines.get())
        return "".join(lines)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                self._lines.put(line)


@dataclass(frozen=True)
class Council:
    """``count`` auditors, prepared for one ceremony; the first is the registrar's."""

    root: Path
    threshold: int
    count: int
    ports: list[int]
    profile: Profile
    dimension: int

    def credentials(self, point: int) -> Path:
        return self.root / "credentials" / f"auditor-{point}"

    def state(self, point: int) -> Path:
        return self.root / f"state-{point}"

    def out(self, point: int) -> Path:
        return self.root / f"keys-{point}"

    @property
    def file(self) -> Path:
        return self.root / "ceremony.json"

    def arguments(self, point: int) -> list[str]:
        arguments: list[object] = ["ceremony", "join", "--file", self.file]
        arguments += ["--credentials", self.credentials(point), "--state", self.state(point)]
        arguments += ["--out", self.out(point)]
        arguments += ["--listen", f"127.0.0.1:{self.ports[point - 1]}"]
        for other, port in enumerate(self.ports, start=1):
            if other != point:
                arguments += ["--peer", f"{other}=127.0.0.1:{port}"]
        return [str(argument) for argument in arguments]

    @contextmanager
    def joining(self) -> Iterator[list[Joining]]:
        """All members at once; none survives the block."""
        members: list[Joining] = []
        try:
            for point in range(1, self.count + 1):
                members.append(Joining(self.arguments(point)))
            yield members
        finally:
            for member in members:
                if member.process.poll() is None:
                    member.kill()


def council(
    root: Path,
    threshold: int,
    count: int,
    *,
    by_command: bool = False,
    profile: Profile = SWIFT,
    dimension: int = DIMENSION,
) -> Council:
    """Issue credentials, make cards and the ceremony file."""
    made = Council(root, threshold, count, free_ports(count), profile, dimension)
    authority = Authority.create()
    authority.save(root / "credentials" / "ca")
    for point in range(1, count + 1):
        issue(authority, made.credentials(point), Role.AUDITOR, f"auditor-{point}")
    (_with_commands if by_command else _with_functions)(made)
    return made


def _with_commands(made: Council) -> None:
    cards = []
    for point in range(1, made.count + 1):
        arguments: list[object] = ["ceremony", "prepare", "--state", made.state(point)]
        arguments += ["--credentials", made.credentials(point)]
        arguments += ["--registrar"] if point == 1 else []
        cards.append(command(*arguments)["card"])
    arguments = ["ceremony", "plan", *cards, "--threshold", made.threshold, "--profile"]
    arguments += [made.profile.name, "--dimension", made.dimension]
    command(*arguments, "--out", made.file)


def _with_functions(made: Council) -> None:
    cards = []
    for point in range(1, made.count + 1):
        made.state(point).mkdir()
        keys = OwnKeys.generate(OpeningKey.generate() if point == 1 else None)
        keys.save(made.state(point) / "member.sealed", PASSPHRASE.encode())
        identity = Credentials.load(made.credentials(point)).identity
        cards.append(keys.card(identity.public_key))
    label = cards[0].label
    assert label is not None
    members = tuple(card.keys for card in cards)
    file = CeremonyFile(made.profile, made.dimension, made.threshold, members, label)
    made.file.write_bytes(file.to_bytes())
