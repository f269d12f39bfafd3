from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from underseal_core.errors import Conflict, Damaged, InvalidInput, NotFound, PermissionRefused
from underseal_core.signing import Identity
from underseal_core.tlog.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from underseal_core.tlog.log import TransparencyLog
from underseal_core.tlog.note import KeyKind, Note, NoteSigner
from underseal_core.tlog.proof import verify_receipt
from underseal_core.tlog.witness import StaleSize, Witness
from underseal_core.tlog.witness_request import WitnessRequest

NOW = 1_790_000_000


@pytest.fixture
def signer() -> NoteSigner:
    return NoteSigner("log.example/auditors", Identity.generate())


@pytest.fixture
def cosigner() -> NoteSigner:
    return NoteSigner("witness.example/w1", Identity.generate(), KeyKind.COSIGNATURE)


@pytest.fixture
def log(tmp_path: Path, signer: NoteSigner) -> Iterator[TransparencyLog]:
    with TransparencyLog.create(tmp_path / "log", signer) as opened:
        yield opened


@pytest.fixture
def witness(tmp_path: Path, log: TransparencyLog, cosigner: NoteSigner) -> Iterator[Witness]:
    opened = Witness(tmp_path / "witness", cosigner, [log.key], lambda: NOW)
    yield opened
    opened.close()


def ask(witness: Witness, log: TransparencyLog, old: int) -> bytes:
    return witness.add_checkpoint(log.witness_request(old).to_bytes())


def test_cosigns_a_log_that_grows(
    witness: Witness, log: TransparencyLog, cosigner: NoteSigner
) -> None:
    old = 0
    for count in (0, 1, 4, 300, 0):
        if count:
            log.append_many([b"x"] * count)
        base = log.checkpoint
        cosigned = log.add_cosignatures(base, ask(witness, log, old), [cosigner.key])
        signed = open_checkpoint(cosigned, log.key, [cosigner.key], quorum=1)
        assert signed.witnessed == {cosigner.key: NOW}
        assert log.checkpoint == cosigned
        old = log.size
    receipt = log.receipt(7)
    assert verify_receipt(receipt, b"x", log.key, [cosigner.key], quorum=1).checkpoint.size == 305


def test_late_cosignature_serves_receipts_but_is_not_published(
    witness: Witness, log: TransparencyLog, cosigner: NoteSigner
) -> None:
    log.append(b"first")
    base = log.checkpoint
    answer = ask(witness, log, 0)
    log.append(b"second")
    latest = log.checkpoint
    cosigned = log.add_cosignatures(base, answer, [cosigner.key])
    assert log.checkpoint == latest
    receipt = log.receipt(0, cosigned)
    verify_receipt(receipt, b"first", log.key, [cosigner.key], quorum=1)


def test_two_witnesses_do_not_displace_each_other(
    tmp_path: Path, log: TransparencyLog, witness: Witness, cosigner: NoteSigner
) -> None:
    second = NoteSigner("witness.example/w2", Identity.generate(), KeyKind.COSIGNATURE)
    other = Witness(tmp_path / "witness2", second, [log.key], lambda: NOW + 1)
    log.append(b"x")
    base = log.checkpoint
    for which, key in ((witness, cosigner.key), (other, second.key)):
        log.add_cosignatures(base, ask(which, log, 0), [key])
    keys = [cosigner.key, second.key]
    open_checkpoint(log.checkpoint, log.key, keys, quorum=2)
    other.close()


def test_remembers_across_restarts(
    tmp_path: Path, log: TransparencyLog, witness: Witness, cosigner: NoteSigner
) -> None:
    log.append(b"x")
    ask(witness, log, 0)
    with pytest.raises(Conflict):
        Witness(tmp_path / "witness", cosigner, [log.key])
    witness.close()
    again = Witness(tmp_path / "witness", cosigner, [log.key], lambda: NOW)
    with pytest.raises(StaleSize) as caught:
        ask(again, log, 0)
    assert caught.value.size == 1
    latest = again.latest(log.key.name)
    assert latest is not None
    assert latest.checkpoint.size == 1
    name = hashlib.sha256(log.key.name.encode()).hexdigest()
    assert (tmp_path / "witness" / name / "checkpoint").read_bytes() == latest.raw
    ask(again, log, 1)
    again.close()


def test_forked_log_gets_no_cosignature(
    tmp_path: Path, log: TransparencyLog, witness: Witness, signer: NoteSigner
) -> None:
    log.append_many([b"x"] * 5)
    shutil.copytree(tmp_path / "log", tmp_path / "fork")
    log.append(b"told to the witness")
    ask(witness, log, 0)
    with TransparencyLog(tmp_path / "fork", signer) as fork:
        fork.append(b"told to somebody else")
        with pytest.raises(Damaged, match="forked"):
            ask(witness, fork, 6)
        fork.append(b"more")
        with pytest.raises(Damaged, match="forked"):
            ask(witness, fork, 6)
    latest = witness.latest(log.key.name)
    assert latest is not None
    assert latest.checkpoint == open_checkpoint(log.checkpoint, log.key).checkpoint


def test_rolled_back_log_gets_no_cosignature(log: TransparencyLog, witness: Witness) -> None:
    log.append(b"x")
    earlier = log.checkpoint
    log.append(b"y")
    ask(witness, log, 0)
    for old in (0, 1):
        with pytest.raises(StaleSize):
            witness.add_checkpoint(WitnessRequest(old, (), earlier).to_bytes())
    with pytest.raises(InvalidInput):
        witness.add_checkpoint(WitnessRequest(2, (), earlier).to_bytes())


def test_wrong_proofs_are_refused(log: TransparencyLog, witness: Witness) -> None:
    log.append_many([b"x", b"y", b"z"])
    with pytest.raises(Damaged):
        witness.add_checkpoint(WitnessRequest(0, (bytes(32),), log.checkpoint).to_bytes())
    ask(witness, log, 0)
    log.append(b"more")
    good = log.witness_request(3)
    for proof in ((), good.proof[:-1], (*good.proof, bytes(32)), good.proof[::-1]):
        with pytest.raises(Damaged):
            witness.add_checkpoint(WitnessRequest(3, proof, good.checkpoint).to_bytes())
    witness.add_checkpoint(good.to_bytes())


def test_empty_log_must_have_the_empty_root(witness: Witness, signer: NoteSigner) -> None:
    raw = sign_checkpoint(Checkpoint(signer.key.name, 0, bytes(32)), signer)
    with pytest.raises(Damaged, match="empty log"):
        witness.add_checkpoint(WitnessRequest(0, (), raw).to_bytes())


def test_unknown_log_and_wrong_signatures(
    log: TransparencyLog, witness: Witness, signer: NoteSigner
) -> None:
    stranger = NoteSigner("log.example/other", Identity.generate())
    foreign = sign_checkpoint(Checkpoint(stranger.key.name, 1, bytes(32)), stranger)
    with pytest.raises(NotFound):
        witness.add_checkpoint(WitnessRequest(0, (), foreign).to_bytes())
    with pytest.raises(NotFound):
        witness.latest(stranger.key.name)
    imposter = NoteSigner(signer.key.name, Identity.generate())
    forged = sign_checkpoint(Checkpoint(signer.key.name, 1, bytes(32)), imposter)
    changed = log.checkpoint.replace(b"\n0\n", b"\n1\n")
    for raw in (forged, changed):
        with pytest.raises(PermissionRefused):
            witness.add_checkpoint(WitnessRequest(0, (), raw).to_bytes())
    with pytest.raises(InvalidInput):
        witness.add_checkpoint(b"old 0\n\nno checkpoint\n")
    assert witness.latest(signer.key.name) is None


def test_unknown_signatures_on_a_checkpoint_are_ignored(
    log: TransparencyLog, witness: Witness
) -> None:
    note = Note.parse(log.checkpoint)
    other = NoteSigner("grease.example", Identity.generate()).sign(note.text)
    raw = Note(note.text, (other, *note.signatures)).to_bytes()
    witness.add_checkpoint(WitnessRequest(0, (), raw).to_bytes())
    latest = witness.latest(log.key.name)
    assert latest is not None
    assert [s.name for s in Note.parse(latest.raw).signatures] == [
        log.key.name,
        "witness.example/w1",
    ]


def test_changed_memory_stops_the_witness(
    tmp_path: Path, log: TransparencyLog, witness: Witness
) -> None:
    log.append(b"x")
    ask(witness, log, 0)
    name = hashlib.sha256(log.key.name.encode()).hexdigest()
    path = tmp_path / "witness" / name / "checkpoint"
    path.write_bytes(path.read_bytes().replace(b"\n1\n", b"\n0\n"))
    with pytest.raises(PermissionRefused):
        ask(witness, log, 0)


def test_witness_needs_its_own_kind_of_key(tmp_path: Path, signer: NoteSigner) -> None:
    with pytest.raises(InvalidInput):
        Witness(tmp_path / "w", signer, [])
    cosigner = NoteSigner("w", Identity.generate(), KeyKind.COSIGNATURE)
    with pytest.raises(InvalidInput):
        Witness(tmp_path / "w", cosigner, [signer.key, signer.key])
