"""The auditor's commands as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.auditor_place import (
    DIMENSION,
    PASSPHRASE,
    PROGRAM,
    Desk,
    Place,
    ask,
    command,
    deployed,
    registrar_running,
)
from underseal_auditor.api.serving import RegistrarProcess
from underseal_auditor.keys import share_file
from underseal_auditor.keys.ceremony import run_sole
from underseal_auditor.policy.document import load_policy
from underseal_auditor.policy.signed import countersign, save_signatures
from underseal_auditor.settings import load_settings
from underseal_auditor.store.database import Database
from underseal_core.bundle import load_bundle
from underseal_core.credentials import Credentials
from underseal_core.errors import (
    Busy,
    Damaged,
    InvalidInput,
    Mismatch,
    NotFound,
    PermissionRefused,
    UndersealError,
)
from underseal_core.roster import Roster
from underseal_core.scheme.profiles import GUARDED


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with deployed(tmp_path_factory.mktemp("auditor")) as made:
        yield made


def test_ceremony_writes_three_files_and_overwrites_none(place: Place, tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("a passphrase\n")
    arguments = ["ceremony", "--credentials", place.credentials("auditor"), "--json"]
    arguments += ["--profile", "swift", "--dimension", "100", "--out", tmp_path / "keys"]
    arguments += ["--passphrase-file", tmp_path / "passphrase"]
    facts = json.loads(command(*arguments).stdout)
    assert facts["dimension"] == 128
    assert len(facts["fingerprint"].split()) == 16
    share = share_file.load(tmp_path / "keys" / "share.sealed", b"a passphrase", facts["key_epoch"])
    share.close()
    assert (tmp_path / "keys" / "share.sealed").stat().st_mode & 0o077 == 0
    again = command(*arguments, check=False)
    assert again.returncode == 3
    assert again.stderr.startswith("error: ")
    assert "Traceback" not in again.stderr
    arguments[2] = place.credentials("agency")
    other = command(*arguments, check=False)
    assert other.returncode == 3
    assert "role client, not auditor" in other.stderr


def wait_ready(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    text = ""
    while not text.rstrip().endswith("}"):
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        text += line
    ready: dict[str, str] = json.loads(text)
    return ready


def test_registrar_process_answers_again_after_a_restart(place: Place, tmp_path: Path) -> None:
    """Started as a program, killed without warning, started again: the stored answer is there."""
    asked = ask(place, place.vectors[2])
    flags = place.flags(data=tmp_path / "data")
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    arguments.append(f"--server=server=127.0.0.1:{place.server_port}")
    environment = {**os.environ, "UNDERSEAL_PASSPHRASE": PASSPHRASE.decode()}
    answers = []
    for end in (signal.SIGKILL, signal.SIGTERM):
        with (
            subprocess.Popen(
                [PROGRAM, "registrar", "serve", "--json", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            ) as process,
            ExitStack() as stack,
        ):
            port = wait_ready(process)["listening"].rpartition(":")[2]
            desk = Desk(replace(place, registrar_port=int(port)), "agency", stack)
            answers.append(desk.submit(asked.parts))
            process.send_signal(end)
            _, log = process.communicate(timeout=60)
            assert process.returncode == (-9 if end is signal.SIGKILL else 0)
    assert answers[0] == answers[1]
    assert '"event": "call"' in log
    assert "person-" not in log


def test_registrar_refuses_to_start(place: Place, tmp_path: Path) -> None:
    server = ["server=127.0.0.1:1"]
    foreign = run_sole(GUARDED, DIMENSION, Credentials.load(place.credentials("agency")).identity)
    foreign.bundle.save(tmp_path / "foreign.usb")
    compact = (place.root / "policy.toml").read_text().replace("guarded", "compact")
    (tmp_path / "compact.toml").write_text(
        compact.replace("decimals = 2", "decimals = 0").replace("budget = 65536", "budget = 9")
    )
    roster = Roster.first(load_bundle(place.root / "keys" / "bundle.usb"))
    auditor = Credentials.load(place.credentials("auditor")).identity
    signatures = countersign(load_policy(tmp_path / "compact.toml"), roster, auditor, None)
    save_signatures(tmp_path / "compact.toml", signatures)
    (tmp_path / "unsigned.toml").write_bytes((place.root / "policy.toml").read_bytes())
    cases: list[tuple[dict[str, object], bytes, type[UndersealError]]] = [
        ({}, b"wrong", PermissionRefused),
        ({"credentials": place.credentials("agency")}, PASSPHRASE, InvalidInput),
        ({"bundle": tmp_path / "foreign.usb"}, PASSPHRASE, PermissionRefused),
        ({"policy": tmp_path / "unsigned.toml"}, PASSPHRASE, PermissionRefused),
        ({"bundle": tmp_path / "missing.usb"}, PASSPHRASE, NotFound),
        ({"share": place.root / "keys" / "label.sealed"}, PASSPHRASE, Damaged),
        ({"policy": tmp_path / "compact.toml"}, PASSPHRASE, Mismatch),
        ({"servers": ["elsewhere=127.0.0.1:1"]}, PASSPHRASE, InvalidInput),
    ]
    for changes, passphrase, error in cases:
        flags = place.flags(**{"servers": server, "data": tmp_path / "data", **changes})
        with pytest.raises(error):
            RegistrarProcess(load_settings(None, flags), passphrase)


def test_server_that_is_away(place: Place, tmp_path: Path) -> None:
    asked = ask(place, place.vectors[0])
    with ExitStack() as stack:
        port = stack.enter_context(registrar_running(place, 1, data=tmp_path / "data"))
        desk = Desk(replace(place, registrar_port=port), "agency", stack)
        with pytest.raises(Busy, match="server cannot be reached"):
            desk.submit(asked.parts)


def test_policy_commands(place: Place, tmp_path: Path) -> None:
    policy, bundle = place.root / "policy.toml", place.root / "keys" / "bundle.usb"
    checked = command("policy", "check", policy, "--bundle", bundle, "--json")
    facts = json.loads(checked.stdout)
    assert facts["models"] == {"test-model": "0.6"}
    assert facts["budget"] == 65536 <= facts["budget_limit"]
    asked = ask(place, place.vectors[0])
    (tmp_path / "request.json").write_bytes(asked.request.payload())
    explain = ("policy", "explain", tmp_path / "request.json", "--policy", policy)
    assert json.loads(command(*explain, "--json").stdout)["allowed"] is True
    late = command(*explain, "--at", "2040-01-01T00:00:00Z", check=False)
    assert late.returncode == 3
    assert "REFUSED  expiry" in late.stdout
    strange = asked.request.model_copy(update={"purpose": "curiosity"})
    (tmp_path / "request.json").write_bytes(strange.payload())
    refused = command(*explain, "--json", check=False)
    assert refused.returncode == 5
    assert json.loads(refused.stdout)["rule"] == "purpose-known"
    broken = policy.read_text().replace("top_k", "topk")
    (tmp_path / "broken.toml").write_text(broken)
    failed = command("policy", "check", tmp_path / "broken.toml", check=False)
    assert failed.returncode == 3
    assert "release.top" in failed.stderr


def test_mirror_commands(tmp_path: Path) -> None:
    missing = command("mirror", "list", "--data", tmp_path, check=False)
    assert missing.returncode == 4
    Database(tmp_path / "registrar.sqlite").close()
    assert json.loads(command("mirror", "list", "--data", tmp_path, "--json").stdout) == {
        "galleries": []
    }
    unknown = command("mirror", "forget", "server", "missing", "--data", tmp_path, check=False)
    assert unknown.returncode == 4
