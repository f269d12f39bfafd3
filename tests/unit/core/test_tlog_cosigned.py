from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from underseal_core.errors import Conflict, Damaged, InvalidInput, NotFound, PermissionRefused
from underseal_core.signing import Identity
from underseal_core.tlog.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from underseal_core.tlog.cosigned import FOLDER, CosignedCheckpoints
from underseal_core.tlog.log import TransparencyLog
from underseal_core.tlog.note import KeyKind, Note, NoteSigner
from underseal_core.tlog.proof import verify_receipt

NOW = 1_790_000_000


@pytest.fixture
def signer() -> NoteSigner:
    return NoteSigner("log.example/auditors", Identity.generate())


@pytest.fixture
def log(tmp_path: Path, signer: NoteSigner) -> Iterator[TransparencyLog]:
    with TransparencyLog.create(tmp_path / "log", signer) as opened:
        opened.append_many([b"a", b"b", b"c"])
        yield opened


def witness(number: int) -> NoteSigner:
    return NoteSigner(f"witness.example/{number}", Identity.generate(), KeyKind.COSIGNATURE)


def cosign(raw: bytes, by: NoteSigner, time: int = NOW) -> bytes:
    note = Note.parse(raw)
    return Note(note.text, (note.signatures[0], by.cosign(note.text, time))).to_bytes()


def test_receipts_are_under_what_each_witness_saw_last(log: TransparencyLog) -> None:
    first, second = witness(1), witness(2)
    keys = [first.key, second.key]
    kept = CosignedCheckpoints(log, keys)
    assert kept.receipts(2) == ()
    assert kept.add(cosign(log.checkpoint, first)) == 3
    assert open_checkpoint(log.checkpoint, log.key, keys, quorum=1).witnessed == {first.key: NOW}
    log.append(b"d")
    assert kept.add(cosign(log.checkpoint, second)) == 4
    receipts = kept.receipts(2)
    assert [set(verify_receipt(one, b"c", log.key, keys).witnessed) for one in receipts] == [
        {first.key},
        {second.key},
    ]
    (receipt,) = kept.receipts(3)
    verify_receipt(receipt, b"d", log.key, [second.key], quorum=1)
    assert kept.add(cosign(log.checkpoint, first)) == 4
    (receipt,) = kept.receipts(3)
    assert verify_receipt(receipt, b"d", log.key, keys, quorum=2).checkpoint.size == 4
    assert len(open_checkpoint(log.checkpoint, log.key, keys).witnessed) == 2


def test_what_was_cosigned_outlives_a_restart(log: TransparencyLog, signer: NoteSigner) -> None:
    by = witness(1)
    CosignedCheckpoints(log, [by.key]).add(cosign(log.checkpoint, by))
    log.close()
    with TransparencyLog(log.reader.directory, signer) as again:
        assert CosignedCheckpoints(again, []).receipts(0) == ()  # not asked for any more
        (receipt,) = CosignedCheckpoints(again, [by.key]).receipts(0)
        verify_receipt(receipt, b"a", log.key, [by.key], quorum=1)
        (file,) = (again.reader.directory / FOLDER).iterdir()
        file.write_bytes(file.read_bytes()[:-9])
        kept = CosignedCheckpoints(again, [by.key])
        assert kept.receipts(0) == ()
        kept.add(cosign(again.checkpoint, by))
        assert len(kept.receipts(0)) == 1


def test_only_known_witnesses_and_this_log(log: TransparencyLog) -> None:
    by = witness(1)
    kept = CosignedCheckpoints(log, [by.key])
    with pytest.raises(NotFound, match="does not know this witness"):
        kept.add(cosign(log.checkpoint, witness(1)))
    with pytest.raises(NotFound):
        kept.add(log.checkpoint)
    other = NoteSigner("log.example/other", Identity.generate())
    imposter = NoteSigner(log.key.name, Identity.generate())
    for wrong in (other, imposter):
        head = Checkpoint(wrong.key.name, 3, bytes(32))
        with pytest.raises(PermissionRefused):
            kept.add(cosign(sign_checkpoint(head, wrong), by))
    note = Note.parse(cosign(log.checkpoint, by))
    forged = note.signatures[1]
    wrong_time = type(forged)(forged.name, forged.key_id, bytes(8) + forged.signature[8:])
    with pytest.raises(PermissionRefused, match="not valid"):
        kept.add(Note(note.text, (note.signatures[0], wrong_time)).to_bytes())
    with pytest.raises(InvalidInput):
        kept.add(b"no checkpoint")
    with pytest.raises(InvalidInput):
        CosignedCheckpoints(log, [log.key])
    assert kept.receipts(0) == ()
    assert not (log.reader.directory / FOLDER).exists()


def test_witness_does_not_go_back(log: TransparencyLog) -> None:
    by = witness(1)
    kept = CosignedCheckpoints(log, [by.key])
    earlier = log.checkpoint
    log.append(b"d")
    newer = log.checkpoint
    kept.add(cosign(newer, by))
    with pytest.raises(Conflict, match="cosigned a larger log"):
        kept.add(cosign(earlier, by, NOW + 60))
    kept.add(cosign(newer, by, NOW - 60))
    kept.add(cosign(newer, by, NOW + 60))
    (receipt,) = kept.receipts(3)
    assert verify_receipt(receipt, b"d", log.key, [by.key]).witnessed == {by.key: NOW + 60}


def test_log_learns_that_it_is_not_what_a_witness_saw(
    tmp_path: Path, log: TransparencyLog, signer: NoteSigner
) -> None:
    by = witness(1)
    log.close()
    shutil.copytree(tmp_path / "log", tmp_path / "fork")
    shutil.copytree(tmp_path / "log", tmp_path / "old")
    with TransparencyLog(tmp_path / "log", signer) as main:
        main.append(b"told to the witness")
        seen = cosign(main.checkpoint, by)
        CosignedCheckpoints(main, [by.key]).add(seen)
    for name, entries in (("fork", [b"told to others"]), ("fork", [b"and more"]), ("old", [])):
        with TransparencyLog(tmp_path / name, signer) as wrong:
            if entries:
                wrong.append_many(entries)
            with pytest.raises(Damaged, match="another history"):
                CosignedCheckpoints(wrong, [by.key]).add(seen)
    shutil.copytree(tmp_path / "log" / FOLDER, tmp_path / "old" / FOLDER)
    with (
        TransparencyLog(tmp_path / "old", signer) as old,
        pytest.raises(Damaged, match="became smaller"),
    ):
        CosignedCheckpoints(old, [by.key])
