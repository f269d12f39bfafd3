"""Guardians as processes on different ports, and a registrar that opens with k of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path

import pytest

from tests.auditor_credentials import write_credentials
from tests.auditor_world import (
    AUDITOR,
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
from tests.ceremony_place import free_ports
from underseal_auditor.api.serving import RegistrarProcess
from underseal_auditor.connection import GuardianConnection
from underseal_auditor.guardian import UnfitGuardian
from underseal_auditor.keys import share_file
from underseal_auditor.keys.sealed_file import Argon2Cost
from underseal_auditor.logbook import VKEY_NAME, Logbook, create_logbook
from underseal_auditor.panel import Panel
from underseal_auditor.settings import load_settings
from underseal_core.credentials import Credentials
from underseal_core.errors import Busy, Conflict, InvalidInput
from underseal_core.signing import Identity
from underseal_core.statements import Release, utc_text
from underseal_server.pki import Authority

PROGRAM = Path(sys.executable).with_name("underseal-auditor")
PROFILE = "swift"
PASSPHRASE = b"one for each guardian"
CHEAP = Argon2Cost(memory_kib=64, passes=1)


@dataclass
class Guardians:
    """``guardian serve`` for every share of a world."""

    root: Path
    of: World
    ports: list[int]
    book: Logbook
    processes: dict[int, subprocess.Popen[str]] = field(default_factory=dict)

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

    @contextmanager
    def panel(self, *points: int, caller: int = 1) -> Iterator[Panel]:
        """The registrar's view of these guardians."""
        with ExitStack() as stack:
            links = {}
            for point in points:
                address = f"127.0.0.1:{self.ports[point - 1]}"
                links[point] = GuardianConnection(address, self.credentials(caller), point)
                stack.callback(links[point].close)
            rules = policy(PROFILE).sha256
            panel = Panel(self.of.bundle, self.of.roster, lambda: rules, links, self.book.extends)
            stack.callback(panel.close)
            yield panel

    @contextmanager
    def office(self, panel: Panel) -> Iterator[Desk]:
        now, rules = datetime.now(UTC), policy(PROFILE)
        with desk(self.root, self.of, rules, guardian=panel, now=now, logbook=self.book) as opened:
            yield opened

    def ask(self) -> Answer:
        """A search that finds nobody, made now."""
        now = datetime.now(UTC)
        return self.of.ask(
            unit(1, 5)[0],
            issued_at=utc_text(now),
            expires_at=utc_text(now + timedelta(minutes=10)),
        )


@contextmanager
def guardians(root: Path, threshold: int, count: int) -> Iterator[Guardians]:
    of = world(PROFILE, threshold, count)
    authority = Authority.create()
    of.bundle.save(root / "bundle.usb")
    write_signed_policy(root / "policy.toml", of, policy_text(PROFILE))
    stranger = Identity.generate()
    for point, (share, member) in enumerate(zip(of.shares, of.members, strict=True), start=1):
        write_credentials(authority, root / f"auditor-{point}", f"auditor-{point}", member)
        share_file.save(root / f"share-{point}.sealed", share, PASSPHRASE, CHEAP)
    write_credentials(authority, root / "auditor-0", "stranger", stranger)
    with book_of(root) as book:
        made = Guardians(root, of, free_ports(count), book)
        try:
            for point in range(1, count + 1):
                made.start(point)
            for point in range(1, count + 1):
                made.ready(point)
            yield made
        finally:
            for point in list(made.processes):
                made.kill(point)


@pytest.mark.parametrize(("threshold", "count"), [(2, 3), (3, 5)])
def test_every_group_of_guardian_processes_releases(
    threshold: int, count: int, tmp_path: Path
) -> None:
    with guardians(tmp_path, threshold, count) as made:
        for group in combinations(range(1, count + 1), threshold):
            with made.panel(*group) as panel, made.office(panel) as office:
                envelope = office.envelope(made.ask())
                assert Release.open(envelope, AUDITOR.public_key).matches == ()
                for point in group:
                    Release.open(envelope, made.of.members[point - 1].public_key)


def test_killed_guardian_is_replaced_and_answers_nothing_twice(tmp_path: Path) -> None:
    with (
        guardians(tmp_path, 2, 3) as made,
        made.panel(1, 2, 3) as panel,
        made.office(panel) as office,
    ):
        opened = office.dossier(made.ask())
        panel.begin(opened).open(opened.sealed.norm, 0.1)  # answered by 1 and 2
        made.kill(1)
        with pytest.raises(Conflict, match="answered before"):
            panel.begin(opened)  # 2 and 3
        assert office.submit(made.ask()).matches == ()
        made.kill(2)
        with pytest.raises(Busy, match="too few guardians"):
            office.envelope(made.ask())
        for point in (1, 2):
            made.start(point)
            made.ready(point)
        entry, receipt = opened.intent.entry, opened.intent.receipt
        again = replace(opened, intent=made.book.append_once(entry, receipt).logged)
        with pytest.raises(Conflict, match="answered before"):
            panel.begin(again)
        assert office.submit(made.ask()).matches == ()


def test_auditor_outside_the_key_epoch_gets_nothing(tmp_path: Path) -> None:
    with (
        guardians(tmp_path, 2, 3) as made,
        made.panel(1, 2, caller=0) as panel,
        made.office(panel) as office,
        pytest.raises(UnfitGuardian, match="no member of this key epoch"),
    ):
        office.envelope(made.ask())


def test_registrar_is_built_with_guardians_or_a_share_and_never_both(tmp_path: Path) -> None:
    of = world(PROFILE, 2, 3)
    of.bundle.save(tmp_path / "bundle.usb")
    write_signed_policy(tmp_path / "policy.toml", of, policy_text(PROFILE))
    write_credentials(Authority.create(), tmp_path / "auditor", "auditor", AUDITOR)
    epoch = of.bundle.epoch
    share_file.save(tmp_path / "share.sealed", of.shares[0], PASSPHRASE, CHEAP)
    share_file.save_label_key(
        tmp_path / "label.sealed", of.keys.label_key, epoch, PASSPHRASE, CHEAP
    )
    config = tmp_path / "auditor.toml"
    text = """
listen = "127.0.0.1:0"
credentials = "auditor"
bundle = "bundle.usb"
label_key = "label.sealed"
policy = "policy.toml"
data = "data"
log = "log"
servers = { server = "127.0.0.1:1" }
"""
    create_logbook(tmp_path / "log", "log.example/built")
    chosen = 'guardians = { 1 = "127.0.0.1:2", 3 = "127.0.0.1:3" }\n'
    config.write_text(text + chosen)
    RegistrarProcess(load_settings(config, {}), PASSPHRASE).close()
    flags = {"guardians": ["1=127.0.0.1:2", "2=127.0.0.1:3"]}
    assert load_settings(config, flags).guardians == {1: "127.0.0.1:2", 2: "127.0.0.1:3"}
    for wrong, message in (
        (text, "either a share"),
        (text + chosen + 'share = "share.sealed"\n', "either a share"),
        (text + 'share = "share.sealed"\n', "2 key shares are needed"),
        (text + 'guardians = { 1 = "127.0.0.1:2" }\n', "at least 2 guardians"),
    ):
        config.write_text(wrong)
        with pytest.raises(InvalidInput, match=message):
            RegistrarProcess(load_settings(config, {}), PASSPHRASE)
