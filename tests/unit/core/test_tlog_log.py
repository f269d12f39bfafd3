from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from underseal_core.errors import (
    Conflict,
    Damaged,
    InvalidInput,
    NotFound,
    PermissionRefused,
    StorageFull,
)
from underseal_core.signing import Identity
from underseal_core.tlog.audit import verify_log
from underseal_core.tlog.checkpoint import open_checkpoint
from underseal_core.tlog.journal import CHECKPOINT_INDEX, encode_frame
from underseal_core.tlog.log import MAX_ENTRY, TransparencyLog
from underseal_core.tlog.note import NoteSigner
from underseal_core.tlog.proof import Receipt, verify_receipt


def entry(index: int) -> bytes:
    return b'{"kind":"intent","number":%d}' % index


@pytest.fixture
def signer() -> NoteSigner:
    return NoteSigner("log.example/auditors", Identity.generate())


@pytest.fixture
def log(tmp_path: Path, signer: NoteSigner) -> Iterator[TransparencyLog]:
    with TransparencyLog.create(tmp_path / "log", signer) as opened:
        yield opened


def grow(log: TransparencyLog, count: int) -> None:
    first = log.size
    log.append_many([entry(i) for i in range(first, first + count)])


def size_of(raw: bytes, log: TransparencyLog) -> int:
    return open_checkpoint(raw, log.key).checkpoint.size


def test_empty_log_has_a_signed_checkpoint(log: TransparencyLog, tmp_path: Path) -> None:
    assert log.size == 0
    assert verify_log(tmp_path / "log", log.key).tiles == 0
    with pytest.raises(InvalidInput):
        log.receipt(0)


def test_append_returns_index_and_covering_checkpoint(log: TransparencyLog) -> None:
    for index in range(3):
        appended = log.append(entry(index))
        assert appended.index == index
        assert size_of(appended.checkpoint, log) == index + 1
    assert [a.index for a in log.append_many([b"a", b"b"])] == [3, 4]
    assert [e for _, e in log.reader.entries(5, 2)] == [entry(2), b"a", b"b"]


def test_entries_are_bounded(log: TransparencyLog) -> None:
    for bad in (b"", b"x" * (MAX_ENTRY + 1)):
        with pytest.raises(InvalidInput):
            log.append_many([b"fine", bad])
    with pytest.raises(InvalidInput):
        log.append_many([])
    assert log.append(b"x" * MAX_ENTRY).index == 0


@pytest.mark.parametrize("sizes", [[1, 1, 1], [255, 1, 1], [256, 256], [700], [250, 300, 5]])
def test_files_are_those_of_the_specification(
    log: TransparencyLog, tmp_path: Path, sizes: list[int]
) -> None:
    for count in sizes:
        grow(log, count)
    report = verify_log(tmp_path / "log", log.key)
    size = sum(sizes)
    assert report.signed.checkpoint.size == size
    assert report.bundles == -(-size // 256)
    for index in range(size // 256):
        assert (tmp_path / f"log/tile/0/{index:03d}").stat().st_size == 8192
        assert not (tmp_path / f"log/tile/0/{index:03d}.p").exists()
    if size % 256:
        partial = tmp_path / f"log/tile/0/{size // 256:03d}.p/{size % 256}"
        assert partial.stat().st_size == 32 * (size % 256)


def test_partial_tiles_of_older_checkpoints_stay(log: TransparencyLog, tmp_path: Path) -> None:
    for _ in range(5):
        grow(log, 1)
    assert {p.name for p in (tmp_path / "log/tile/0/000.p").iterdir()} == set("12345")
    assert {p.name for p in (tmp_path / "log/tile/entries/000.p").iterdir()} == set("12345")


def test_receipt_verifies_offline_for_every_checkpoint(log: TransparencyLog) -> None:
    checkpoints = []
    for _ in range(6):
        grow(log, 97)
        checkpoints.append(log.checkpoint)
    for raw in checkpoints:
        for index in (0, 96, size_of(raw, log) - 1):
            receipt = Receipt.parse(log.receipt(index, raw, b"extra").to_bytes())
            assert verify_receipt(receipt, entry(index), log.key).raw == raw
            with pytest.raises(Damaged):
                verify_receipt(receipt, entry(index + 1), log.key)
    with pytest.raises(InvalidInput):
        log.receipt(97, checkpoints[0])


def test_receipt_of_another_log_is_refused(log: TransparencyLog, tmp_path: Path) -> None:
    grow(log, 3)
    other = NoteSigner(log.key.name, Identity.generate())
    with TransparencyLog.create(tmp_path / "other", other) as second:
        grow(second, 3)
        with pytest.raises(PermissionRefused):
            verify_receipt(second.receipt(1), entry(1), log.key)
        with pytest.raises(PermissionRefused):
            log.receipt(1, second.checkpoint)


def test_reopening_gives_the_same_log(tmp_path: Path, signer: NoteSigner) -> None:
    with TransparencyLog.create(tmp_path / "log", signer) as log:
        grow(log, 300)
        before = log.checkpoint
    with TransparencyLog(tmp_path / "log", signer) as log:
        assert log.checkpoint == before
        grow(log, 300)
        verify_log(tmp_path / "log", log.key, [before])


def test_one_writer_only(log: TransparencyLog, tmp_path: Path, signer: NoteSigner) -> None:
    with pytest.raises(Conflict, match="another process"):
        TransparencyLog(tmp_path / "log", signer)
    with pytest.raises(Conflict, match="already holds"):
        TransparencyLog.create(tmp_path / "log", signer)
    log.close()
    log.close()
    with pytest.raises(Damaged, match="stopped"):
        log.append(b"late")
    TransparencyLog(tmp_path / "log", signer).close()


def test_opening_needs_a_checkpoint_by_this_key(tmp_path: Path, signer: NoteSigner) -> None:
    with pytest.raises(NotFound):
        TransparencyLog(tmp_path / "log", signer)
    with TransparencyLog.create(tmp_path / "log", signer) as log:
        grow(log, 2)
    with pytest.raises(PermissionRefused):
        TransparencyLog(tmp_path / "log", NoteSigner(signer.key.name, Identity.generate()))
    (tmp_path / "log/checkpoint").unlink()
    with pytest.raises(NotFound):
        TransparencyLog(tmp_path / "log", signer)
    with pytest.raises(Conflict):
        TransparencyLog.create(tmp_path / "log", signer)


def test_concurrent_appends_share_commits(
    log: TransparencyLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = []
    inner = log._commit

    def counted(entries: list[bytes]) -> None:
        commits.append(len(entries))
        inner(entries)

    monkeypatch.setattr(log, "_commit", counted)
    results: dict[int, bytes] = {}
    start = threading.Barrier(16)

    def work(worker: int) -> None:
        start.wait()
        for i in range(20):
            results[log.append(b"%d.%d" % (worker, i)).index] = b"%d.%d" % (worker, i)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(log.reader.entries(320)) == results
    assert sum(commits) == 320
    assert len(commits) < 320
    verify_log(tmp_path / "log", log.key)


# --- tampering ---------------------------------------------------------------------------------


def flip(path: Path, offset: int = 5) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


FULL = ["tile/0/000", "tile/0/001", "tile/entries/000", "tile/entries/001"]
PARTIAL = ["tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/002.p/88"]


@pytest.mark.parametrize("harm", [flip, cut, Path.unlink])
@pytest.mark.parametrize("name", FULL + PARTIAL)
def test_audit_finds_every_damaged_file(
    log: TransparencyLog, tmp_path: Path, name: str, harm: object
) -> None:
    grow(log, 600)
    assert callable(harm)
    harm(tmp_path / "log" / name)
    with pytest.raises(Damaged):
        verify_log(tmp_path / "log", log.key)


@pytest.mark.parametrize("harm", [flip, cut])
@pytest.mark.parametrize("name", FULL)
def test_opening_refuses_changed_full_files(
    tmp_path: Path, signer: NoteSigner, name: str, harm: object
) -> None:
    with TransparencyLog.create(tmp_path / "log", signer) as log:
        grow(log, 600)
    assert callable(harm)
    harm(tmp_path / "log" / name)
    with pytest.raises(Damaged):
        TransparencyLog(tmp_path / "log", signer)


@pytest.mark.parametrize(
    ("name", "harm"),
    [(name, harm) for name in PARTIAL for harm in (flip, cut, Path.unlink)]
    + [("tile/0/000", Path.unlink)],
)
def test_opening_mends_what_follows_from_entries(
    tmp_path: Path, signer: NoteSigner, name: str, harm: object
) -> None:
    with TransparencyLog.create(tmp_path / "log", signer) as log:
        grow(log, 600)
    assert callable(harm)
    harm(tmp_path / "log" / name)
    with TransparencyLog(tmp_path / "log", signer) as log:
        verify_log(tmp_path / "log", log.key)


def test_opening_mends_older_partial_files(tmp_path: Path, signer: NoteSigner) -> None:
    with TransparencyLog.create(tmp_path / "log", signer) as log:
        grow(log, 3)
        grow(log, 3)
    tile, bundle = tmp_path / "log/tile/0/000.p/3", tmp_path / "log/tile/entries/000.p/3"
    before = tile.read_bytes(), bundle.read_bytes()
    tile.write_bytes(b"")
    cut(bundle)
    TransparencyLog(tmp_path / "log", signer).close()
    assert (tile.read_bytes(), bundle.read_bytes()) == before


def test_opening_refuses_a_removed_bundle(tmp_path: Path, signer: NoteSigner) -> None:
    with TransparencyLog.create(tmp_path / "log", signer) as log:
        grow(log, 600)
    (tmp_path / "log/tile/entries/000").unlink()
    with pytest.raises(Damaged, match="missing"):
        TransparencyLog(tmp_path / "log", signer)


@pytest.mark.parametrize("offset", range(40))
def test_receipts_never_come_from_damaged_tiles(
    log: TransparencyLog, tmp_path: Path, offset: int
) -> None:
    grow(log, 40)
    flip(tmp_path / "log/tile/0/000.p/40", 32 * offset)
    with pytest.raises(Damaged):
        log.receipt(17)


def test_rolled_back_log_is_detected(tmp_path: Path, signer: NoteSigner) -> None:
    directory, copy = tmp_path / "log", tmp_path / "copy"
    with TransparencyLog.create(directory, signer) as log:
        grow(log, 5)
        shutil.copytree(directory, copy)
        grow(log, 1)
        known = log.checkpoint
    verify_log(copy, signer.key)
    with pytest.raises(Damaged, match="rolled back"):
        verify_log(copy, signer.key, [known])


def test_forked_log_is_detected(tmp_path: Path, signer: NoteSigner) -> None:
    directory, copy = tmp_path / "log", tmp_path / "copy"
    with TransparencyLog.create(directory, signer) as log:
        grow(log, 5)
        common = log.checkpoint
        shutil.copytree(directory, copy)
        log.append(b"what the auditors saw")
        known = log.checkpoint
    with TransparencyLog(copy, signer) as fork:
        fork.append(b"what the operator shows")
        fork.append(b"and more")
    assert verify_log(copy, signer.key, [common]).signed.checkpoint.size == 7
    with pytest.raises(Damaged, match="forked"):
        verify_log(copy, signer.key, [common, known])


def test_lost_acknowledged_entries_are_noticed(tmp_path: Path, signer: NoteSigner) -> None:
    with TransparencyLog.create(tmp_path / "log", signer) as log:
        grow(log, 5)
        last = len(encode_frame(CHECKPOINT_INDEX, log.checkpoint))
    journal = tmp_path / "log/journal"
    whole = journal.read_bytes()
    for damaged in (b"", whole[: -last - 1], whole[:10], bytes(len(whole)), whole[1:]):
        journal.write_bytes(damaged)
        with pytest.raises(Damaged, match="missing"):
            TransparencyLog(tmp_path / "log", signer)


def test_entries_exchanged_with_their_checksums_are_noticed(
    tmp_path: Path, signer: NoteSigner
) -> None:
    with TransparencyLog.create(tmp_path / "log", signer) as log:
        grow(log, 3)
    forged = [encode_frame(i, b"forged" if i == 1 else entry(i)) for i in range(3)]
    (tmp_path / "log/journal").write_bytes(b"".join(forged))
    with pytest.raises(Damaged, match="root that was signed"):
        TransparencyLog(tmp_path / "log", signer)


def test_audit_holds_entries_and_tiles_against_the_signed_root(
    log: TransparencyLog, tmp_path: Path, signer: NoteSigner
) -> None:
    grow(log, 300)
    with TransparencyLog.create(tmp_path / "other", signer) as other:
        other.append_many([b"other entry"] * 300)
    (tmp_path / "other/checkpoint").write_bytes(log.checkpoint)
    with pytest.raises(Damaged, match="root that was signed"):
        verify_log(tmp_path / "other", log.key)


def test_audit_hands_every_verified_entry_over(log: TransparencyLog, tmp_path: Path) -> None:
    grow(log, 300)
    seen: dict[int, bytes] = {}
    verify_log(tmp_path / "log", log.key, visit=seen.__setitem__)
    assert seen == {i: entry(i) for i in range(300)}


# --- crashes -----------------------------------------------------------------------------------


def test_torn_journal_loses_nothing_acknowledged(tmp_path: Path, signer: NoteSigner) -> None:
    """Cut the journal at every byte of a frame that no checkpoint covers."""
    directory = tmp_path / "log"
    with TransparencyLog.create(directory, signer) as log:
        grow(log, 3)
        acknowledged = log.checkpoint
        kept = (directory / "journal").stat().st_size
        grow(log, 1)
    whole = (directory / "journal").read_bytes()
    with_entry = kept + len(encode_frame(3, entry(3)))
    for length in range(kept, len(whole) + 1):
        copy = tmp_path / f"copy{length}"
        shutil.copytree(directory, copy)
        (copy / "checkpoint").write_bytes(acknowledged)
        (copy / "journal").write_bytes(whole[:length] + bytes(50 * (length % 2)))
        with TransparencyLog(copy, signer) as log:
            assert log.size == (4 if length >= with_entry else 3)
            log.append(b"goes on")
        verify_log(copy, signer.key, [acknowledged])


@pytest.mark.parametrize("left", ["older", "empty", "zeros"])
def test_power_cut_before_the_checkpoint_file_is_on_disk(
    tmp_path: Path, signer: NoteSigner, left: str
) -> None:
    """The file of the last checkpoint is not fsynced: the journal has it."""
    with TransparencyLog.create(tmp_path / "log", signer) as log:
        grow(log, 3)
        older = log.checkpoint
        grow(log, 1)
        acknowledged = log.checkpoint
    content = {"older": older, "empty": b"", "zeros": bytes(len(acknowledged))}[left]
    (tmp_path / "log/checkpoint").write_bytes(content)
    with TransparencyLog(tmp_path / "log", signer) as log:
        assert log.checkpoint == acknowledged
    assert (tmp_path / "log/checkpoint").read_bytes() == acknowledged
    verify_log(tmp_path / "log", signer.key, [acknowledged])


def test_one_fsync_per_commit(log: TransparencyLog, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(log, 3)
    calls: list[None] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(fsync(descriptor)))
    log.append(b"one more")
    assert len(calls) == 1


class PowerCutError(BaseException):
    """The process stops here."""


@pytest.mark.parametrize("count", [1, 3, 300])
def test_stop_at_every_system_call(
    tmp_path: Path, signer: NoteSigner, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Stop before each write, fsync and rename of one append; reopen; nothing is lost."""
    base = tmp_path / "base"
    with TransparencyLog.create(base, signer) as log:
        grow(log, 254)
        acknowledged = log.checkpoint
    step, finished = 0, False
    while not finished:
        copy = tmp_path / "copy"
        shutil.copytree(base, copy)
        log = TransparencyLog(copy, signer)
        left = step

        def stop(call: object, *args: object, **keywords: object) -> object:
            nonlocal left
            if left == 0:
                raise PowerCutError
            left -= 1
            assert callable(call)
            return call(*args, **keywords)

        with monkeypatch.context() as patch:
            for owner, name in ((os, "write"), (os, "fsync"), (Path, "replace"), (Path, "mkdir")):
                call = getattr(owner, name)
                patch.setattr(owner, name, lambda *a, _call=call, **k: stop(_call, *a, **k))
            try:
                log.append_many([entry(254 + i) for i in range(count)])
                finished = True
            except PowerCutError:
                pass
        log.close()
        with TransparencyLog(copy, signer) as again:
            assert again.size in (254, 254 + count)
            assert not finished or again.size == 254 + count
            again.append(b"goes on")
            expected = [entry(i) for i in range(again.size - 1)] + [b"goes on"]
            assert [e for _, e in again.reader.entries(again.size)] == expected
        verify_log(copy, signer.key, [acknowledged])
        shutil.rmtree(copy)
        step += 1
    assert step > 8


def test_full_disk_stops_the_log(
    log: TransparencyLog, tmp_path: Path, signer: NoteSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(log, 5)
    before = log.checkpoint

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageFull) as caught:
            log.append(b"no room")
    assert str(tmp_path) not in str(caught.value.public)
    with pytest.raises(Damaged, match="stopped"):
        log.append(b"still not")
    assert log.checkpoint == before
    log.close()
    with TransparencyLog(tmp_path / "log", signer) as again:
        assert again.append(b"room again").index == 5
