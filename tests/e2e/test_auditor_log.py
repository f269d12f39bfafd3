"""``underseal-auditor log`` against a running registrar, and the log's service."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.auditor_place import Desk, Place, ask, command, deployed, translated
from underseal_auditor.connection import RegistrarLog
from underseal_auditor.logbook import load_vkey, open_logbook
from underseal_auditor.logs.mirror import LogMirror
from underseal_core.credentials import Credentials
from underseal_core.errors import InvalidInput
from underseal_core.signing import Identity
from underseal_core.tlog.audit import verify_log
from underseal_core.tlog.checkpoint import open_checkpoint
from underseal_core.tlog.note import NoteSigner, VerifierKey
from underseal_core.tlog.proof import Receipt
from underseal_core.tlog.witness import Witness
from underseal_proto.v1 import log_pb2, log_pb2_grpc


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A registrar that has answered two searches."""
    with deployed(tmp_path_factory.mktemp("auditor")) as made, ExitStack() as stack:
        desk = Desk(made, "agency", stack)
        for index in (1, 2):
            desk.submit(ask(made, made.vectors[index]).parts)
        yield made


def remote(place: Place) -> list[object]:
    """Options that reach the log as somebody who has a certificate and no more."""
    options: list[object] = ["--registrar", f"127.0.0.1:{place.registrar_port}"]
    options += ["--credentials", place.credentials("other")]
    return [*options, "--log-key", place.root / "log" / "log.vkey"]


def local(place: Place) -> list[object]:
    return [place.root / "log", "--log-key", place.root / "log" / "log.vkey"]


def printed(*arguments: object) -> Any:
    return json.loads(command("log", *arguments, "--json").stdout)


def printed_by(*arguments: object) -> Any:
    return json.loads(command(*arguments, "--json").stdout)


def test_log_is_verified_locally_and_from_elsewhere(place: Place) -> None:
    bundle = ["--bundle", place.root / "keys" / "bundle.usb"]
    facts = [printed("verify", *options, *bundle) for options in (local(place), remote(place))]
    assert facts[0] == facts[1]
    assert facts[0]["size"] == 5
    assert facts[0]["findings"] == []
    (epoch,) = facts[0]["epochs"].values()
    assert epoch == {"total": 2, "budget": 65536}
    assert command("log", "verify", *local(place)).stdout.endswith("verified\n")


def test_statistics_are_recomputed(place: Place) -> None:
    (row,) = printed("stats", *remote(place))["rows"]
    month = row.pop("month")
    assert len(month) == 7
    assert row == {
        "client": "agency",
        "purpose": "missing-person",
        "intents": 2,
        "released": 2,
        "refused": 0,
        "unanswered": 0,
        "provisional": 0,
        "revoked": 0,
        "matches": 2,
        "compared": 24,
        "values_charged": 2,
    }
    table = command("log", "stats", *local(place)).stdout.splitlines()
    assert table[0].split()[:3] == ["month", "client", "purpose"]
    assert table[1].split()[:3] == [month, "agency", "missing-person"]


def test_receipt_is_made_and_checked_offline(place: Place, tmp_path: Path) -> None:
    key = ["--log-key", place.root / "log" / "log.vkey"]
    facts = printed("prove", 3, "--out", tmp_path / "made", *remote(place))
    assert '"log-intent' not in facts["entry"]
    proof, entry = tmp_path / "made" / "entry.tlog-proof", tmp_path / "made" / "entry.json"
    assert proof.read_bytes().startswith(b"c2sp.org/tlog-proof@v1\n")
    assert printed("check", proof, entry, *key)["valid"] is True
    entry.write_bytes(entry.read_bytes().replace(b"agency", b"bureau"))
    assert command("log", "check", proof, entry, *key, check=False).returncode == 7
    # what was handed out once, the log must honour for ever
    known = ["--known", proof]
    assert printed("verify", *remote(place), *known)["findings"] == []


def test_watch_alarms_on_budget_and_on_a_rewritten_log(place: Place, tmp_path: Path) -> None:
    state = tmp_path / "state"
    look = ["watch", *remote(place), "--state", state, "--once"]
    assert printed(*look)["alarms"] == []
    early = command("log", *look, "--budget-alarm", 0.00001, check=False)
    assert early.returncode == 5
    assert "ALARM: key epoch" in early.stdout
    # a longer log under the same key, which this watcher has been shown in the meantime
    fork = tmp_path / "fork"
    shutil.copytree(place.root / "log", fork, ignore=shutil.ignore_patterns("lock"))
    book = open_logbook(fork, Identity.generate())
    book.append(b"one more")
    (state / "checkpoint").write_bytes(book.log.checkpoint)
    book.close()
    alarm = command("log", *look, check=False)
    assert alarm.returncode == 7
    assert "rolled back or forked" in alarm.stderr
    (kept,) = (state / "alarms").iterdir()
    assert {path.name for path in kept.iterdir()} == {"seen.checkpoint", "shown.checkpoint"}


def test_witness_cosigns_what_only_grew(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "witness"
    made = printed_by("witness", "create", "--out", folder, "--name", "witness.example/one")
    look = ["witness", "cosign", folder, *remote(place), "--once"]
    assert printed_by(*look)["size"] == printed_by(*look)["size"] == 5
    (seen,) = (folder / "seen").glob("*/checkpoint")
    key = load_vkey(place.root / "log" / "log.vkey")
    cosigner = VerifierKey.parse(made["vkey"])
    assert open_checkpoint(seen.read_bytes(), key, [cosigner], quorum=1).checkpoint.size == 5
    # the log must honour it from now on
    assert printed("verify", *local(place), "--known", seen)["findings"] == []
    check_receipt_under(seen, place, tmp_path, folder / "witness.vkey")
    # somebody with the log's key has shown it another history in the meantime
    fork = tmp_path / "fork"
    shutil.copytree(place.root / "log", fork, ignore=shutil.ignore_patterns("lock"))
    book = open_logbook(fork, Identity.generate())
    book.append(b"one more")
    request = book.log.witness_request(5)
    book.close()
    signer = NoteSigner(cosigner.name, Identity.load(folder / "witness.key"), cosigner.kind)
    witness = Witness(folder / "seen", signer, [key])
    witness.add_checkpoint(request.to_bytes())
    witness.close()
    refused = command(*look, check=False)
    assert refused.returncode == 7
    assert "ALARM: the log was rolled back" in refused.stderr
    kept = open_checkpoint(seen.read_bytes(), key, [cosigner], quorum=1)
    assert kept.checkpoint.size == 6


def check_receipt_under(seen: Path, place: Place, folder: Path, vkey: Path) -> None:
    """A receipt counts by the witness's cosignature only where the checkpoint carries it."""
    printed("prove", 3, "--out", folder / "proved", *remote(place))
    proof, entry = folder / "proved" / "entry.tlog-proof", folder / "proved" / "entry.json"
    key = ["--log-key", place.root / "log" / "log.vkey"]
    asked = [proof, entry, *key, "--witness", vkey]
    refused = command("log", "check", *asked, check=False)
    assert (refused.returncode, "too few witnesses" in refused.stderr) == (5, True)
    receipt = replace(Receipt.parse(proof.read_bytes()), checkpoint=seen.read_bytes())
    proof.write_bytes(receipt.to_bytes())
    assert printed("check", *asked)["witnessed_by"] == ["witness.example/one"]
    assert printed("check", proof, entry, *key)["witnessed_by"] == []


def test_changed_entry_is_found(place: Place, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(place.root / "log" / "tiles", copy, ignore=shutil.ignore_patterns("lock"))
    (bundle,) = (copy / "tile" / "entries" / "000.p").glob("5")
    bundle.write_bytes(bundle.read_bytes().replace(b"agency", b"bureau"))
    key = ["--log-key", place.root / "log" / "log.vkey"]
    wrong = command("log", "verify", copy, *key, check=False)
    assert wrong.returncode == 7
    assert "do not give the root" in wrong.stderr


def test_mirror_grows_with_the_log(place: Place, tmp_path: Path) -> None:
    """Beyond a full tile, from a partial one, through the real service."""
    key = load_vkey(place.root / "log" / "log.vkey")
    credentials = Credentials.load(place.credentials("other"))
    source = RegistrarLog(f"127.0.0.1:{place.registrar_port}", credentials)
    mirror = LogMirror(tmp_path, key)
    first = mirror.update(source)
    assert mirror.update(source) == first
    assert verify_log(tmp_path, key).signed == first
    source.close()


def test_service_refuses_what_the_log_does_not_have(place: Place) -> None:
    with ExitStack() as stack:
        desk = Desk(place, "other", stack)
        stub = log_pb2_grpc.LogServiceStub(desk.channel)
        calls = [
            lambda: stub.GetTile(log_pb2.GetTileRequest(level=0, index=0, size=6)),
            lambda: stub.GetTile(log_pb2.GetTileRequest(level=1, index=0, size=5)),
            lambda: stub.GetTile(log_pb2.GetTileRequest(level=64, index=0, size=5)),
            lambda: stub.GetTile(log_pb2.GetTileRequest(level=0, index=1, size=5)),
            lambda: stub.GetEntries(log_pb2.GetEntriesRequest(bundle=1, size=5)),
            lambda: stub.GetEntries(log_pb2.GetEntriesRequest(bundle=0, size=2**63)),
            lambda: stub.GetConsistency(log_pb2.GetConsistencyRequest(old_size=3, new_size=6)),
            lambda: stub.GetConsistency(log_pb2.GetConsistencyRequest(old_size=5, new_size=3)),
        ]
        for call in calls:
            with pytest.raises(InvalidInput):
                translated(call)


def test_wrong_use(place: Place, tmp_path: Path) -> None:
    key = ["--log-key", place.root / "log" / "log.vkey"]
    assert command("log", "verify", *key, check=False).returncode == 3
    assert command("log", "verify", tmp_path, *key, check=False).returncode == 4
    missing = ["--log-key", tmp_path / "none.vkey"]
    assert command("log", "verify", place.root / "log", *missing, check=False).returncode == 4
    made = command("log", "create", "--out", tmp_path / "new", "--origin", "log.example/new")
    assert "log.example/new+" in made.stdout
    other = ["--log-key", tmp_path / "new" / "log.vkey"]
    assert command("log", "verify", place.root / "log", *other, check=False).returncode == 5
