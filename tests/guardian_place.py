"""Guardians as processes on different ports, each with a share of a small world."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.auditor_credentials import write_credentials
from tests.auditor_guardians import Releases
from tests.auditor_world import (
    Answer,
    Desk,
    World,
    book_of,
    desk,
    policy,
    policy_text,
    unit,
    world,
    write_signed_policy,
)
from tests.ceremony_place import PASSPHRASE as PASSPHRASE_TEXT
from tests.ceremony_place import free_ports
from tests.operator_server import operator_serving
from underseal_auditor.connection import GuardianConnection
from underseal_auditor.keys import share_file
from underseal_auditor.keys.sealed_file import Argon2Cost
from underseal_auditor.logbook import VKEY_NAME, Logbook
from underseal_auditor.panel import Panel
from underseal_core.credentials import Credentials, Role
from underseal_core.signing import Identity
from underseal_core.statements import utc_text
from underseal_server.pki import Authority, issue

PROGRAM = Path(sys.executable).with_name("underseal-auditor")
PASSPHRASE = PASSPHRASE_TEXT.encode()
CHEAP = Argon2Cost(memory_kib=64, passes=1)


@dataclass
class Guardians:
    """``guardian serve`` for every share of a world."""

    root: Path
    of: World
    ports: list[int]
    book: Logbook
    server: str
    profile: str
    processes: dict[int, subprocess.Popen[str]] = field(default_factory=dict)
    releases: Releases = field(default_factory=Releases)

    def credentials(self, point: int) -> Credentials:
        return Credentials.load(self.root / f"auditor-{point}")

    def start(self, point: int) -> None:
        arguments: list[object] = ["guardian", "serve", "--json", "--log-level", "ERROR"]
        arguments += ["--listen", f"127.0.0.1:{self.ports[point - 1]}"]
        arguments += ["--credentials", self.root / f"auditor-{point}"]
        arguments += ["--bundle", self.root / "bundle.usb", "--policy", self.root / "policy.toml"]
        arguments += ["--share", self.root / f"share-{point}.sealed"]
        arguments += ["--data", self.root / f"data-{point}"]
        arguments += ["--log-key", self.root / "log" / VKEY_NAME]
        arguments += ["--server", f"server={self.server}"]
        self.processes[point] = subprocess.Popen(
            [PROGRAM, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "UNDERSEAL_PASSPHRASE": PASSPHRASE.decode()},
        )

    def ready(self, point: int) -> None:
        output = self.processes[point].stdout
        assert output is not None
        lines = ""
        while not lines.rstrip().endswith("}"):
            line = output.readline()
            assert line, "the guardian ended"
            lines += line
        facts = json.loads(lines)
        assert (facts["point"], facts["key_epoch"]) == (point, self.of.bundle.epoch)

    def kill(self, point: int) -> None:
        process = self.processes.pop(point)
        process.kill()
        process.wait(timeout=30)
        assert process.stdout is not None
        process.stdout.close()

    def connect(self, point: int, caller: int = 1) -> GuardianConnection:
        """A connection of another auditor to this guardian."""
        address = f"127.0.0.1:{self.ports[point - 1]}"
        return GuardianConnection(address, self.credentials(caller), point)

    @contextmanager
    def panel(
        self,
        *points: int,
        caller: int = 1,
        connect: Callable[[int], GuardianConnection] | None = None,
    ) -> Iterator[Panel]:
        """The registrar's view of these guardians."""
        with ExitStack() as stack:
            links = {}
            for point in points:
                links[point] = connect(point) if connect else self.connect(point, caller)
                stack.callback(links[point].close)
            rules = policy(self.profile).sha256
            of = self.of
            panel = Panel(
                of.bundle, of.roster, lambda: rules, links, self.book.extends, self.releases
            )
            stack.callback(panel.close)
            yield panel

    @contextmanager
    def office(self, panel: Panel) -> Iterator[Desk]:
        now, rules = datetime.now(UTC), policy(self.profile)
        with desk(self.root, self.of, rules, guardian=panel, now=now, logbook=self.book) as opened:
            self.releases.ledger = opened.ledger
            yield opened

    def ask(self, seed: int = 5) -> Answer:
        """A search that finds nobody, made now."""
        now = datetime.now(UTC)
        return self.of.ask(
            unit(1, seed)[0],
            issued_at=utc_text(now),
            expires_at=utc_text(now + timedelta(minutes=10)),
        )


@contextmanager
def guardians(
    root: Path, threshold: int, count: int, profile: str = "swift"
) -> Iterator[Guardians]:
    of = world(profile, threshold, count)
    authority = Authority.create()
    of.bundle.save(root / "bundle.usb")
    write_signed_policy(root / "policy.toml", of, policy_text(profile))
    stranger = Identity.generate()
    for point, (share, member) in enumerate(zip(of.shares, of.members, strict=True), start=1):
        write_credentials(authority, root / f"auditor-{point}", f"auditor-{point}", member)
        share_file.save(root / f"share-{point}.sealed", share, PASSPHRASE, CHEAP)
    write_credentials(authority, root / "auditor-0", "stranger", stranger)
    issue(authority, root / "server", Role.SERVER, "server")
    with serving(root, of, profile) as made:
        yield made


@contextmanager
def serving(root: Path, of: World, profile: str) -> Iterator[Guardians]:
    """Start all guardians of a world whose files are there; none survives the block."""
    count = len(of.shares)
    served = operator_serving(of.operator, Credentials.load(root / "server"))
    with book_of(root) as book, served as server:
        made = Guardians(root, of, free_ports(count), book, server, profile)
        try:
            for point in range(1, count + 1):
                made.start(point)
            for point in range(1, count + 1):
                made.ready(point)
            yield made
        finally:
            for point in list(made.processes):
                made.kill(point)
