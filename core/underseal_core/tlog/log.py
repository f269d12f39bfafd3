"""The one writer of a log.

Order of a commit: checkpoint signed; entries and checkpoint into the journal, one fsync; full
tiles and bundles, fsync; partial ones; the checkpoint's file; then the appends are acknowledged.
So nobody sees a checkpoint before it and its entries are durable, and no entry is acknowledged
without. The files of the last commit need no fsync of their own while the journal has what they
follow from: opening a log writes them anew, refuses entries that do not give the signed root,
and drops only what was never acknowledged.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from underseal_core.durable import sync_folder
from underseal_core.errors import Conflict, Damaged, InvalidInput, UndersealError
from underseal_core.tlog import disk
from underseal_core.tlog.checkpoint import (
    Checkpoint,
    add_cosignatures,
    open_checkpoint,
    sign_checkpoint,
)
from underseal_core.tlog.journal import Journal
from underseal_core.tlog.layout import CHECKPOINT, TileFile
from underseal_core.tlog.note import Note, NoteSigner, VerifierKey
from underseal_core.tlog.proof import Receipt
from underseal_core.tlog.recovery import rebuild
from underseal_core.tlog.tiles import TileReader
from underseal_core.tlog.tree import EMPTY_ROOT, consistency_proof, inclusion_proof
from underseal_core.tlog.verifier import check_inclusion
from underseal_core.tlog.witness_request import WitnessRequest

GATHER_SECONDS = 0.005
GATHER_SHARE = 0.25
"""How long a commit waits for callers that took part in the one before: at most so many seconds,
and at most this share of what that one took. One caller alone never waits."""

MAX_ENTRY = 16 << 10
"""Leaves are summaries; this bounds a partial bundle, of which there is one per checkpoint."""


@dataclass(frozen=True, slots=True)
class Appended:
    """A durable entry: its index and a signed checkpoint that covers it."""

    index: int
    checkpoint: bytes


@dataclass(slots=True)
class _Ticket:
    entries: Sequence[bytes]
    result: list[Appended] = field(default_factory=list)
    error: UndersealError | None = None
    done: bool = False


class TransparencyLog:
    """An append-only log in one directory. Thread-safe; concurrent appends share fsyncs."""

    def __init__(self, directory: Path, signer: NoteSigner) -> None:
        """Open a log that :meth:`create` made, and repair what a crash left undone.

        Raises
        ------
        NotFound
            No log here, or its checkpoint was removed.
        Conflict
            Another process writes it.
        Damaged
            Acknowledged entries are missing, or entries or tiles were changed.
        PermissionRefused
            The checkpoint is not signed by ``signer``'s key.
        """
        self._directory = directory
        self._signer = signer
        self._reader = TileReader(directory)
        self._checkpoint = self._reader.checkpoint()
        self._queue: list[_Ticket] = []
        self._idle = threading.Condition()
        self._busy = self._broken = False
        self._callers, self._commit_seconds = 0, 0.0
        self._partials: set[str] = set()
        with disk.storage():
            self._lock = disk.WriterLock(directory)
            self._journal = Journal(directory)
            try:
                self._reopen()
            except BaseException:
                self.close()
                raise

    def _reopen(self) -> None:
        """Take the state from disk; only now that the lock is held does it stand still."""
        journal = self._journal.recover()
        published = self._reader.checkpoint()
        self._checkpoint = self._newest(published, journal.checkpoint)
        head = open_checkpoint(self._checkpoint, self.key).checkpoint
        found = rebuild(self._directory, head, journal.entries)
        self._builder = found.builder
        if found.missing or found.builder.size != head.size:
            self._publish(found.missing, self._signed_head(), durable=True)
            return
        self._write_partials()
        if self._checkpoint != published:
            self._store_checkpoint(self._checkpoint, durable=True)

    def _newest(self, published: bytes, journalled: bytes) -> bytes:
        """Return the newer checkpoint; a power cut may have left the file old, or nothing in it."""
        if not journalled:
            return published
        inside = open_checkpoint(journalled, self.key).checkpoint
        if not published.strip(b"\0"):
            return journalled
        outside = open_checkpoint(published, self.key).checkpoint
        return journalled if inside.size > outside.size else published

    @classmethod
    def create(cls, directory: Path, signer: NoteSigner) -> Self:
        """Start an empty log, with a signed checkpoint of size 0, and open it.

        Raises
        ------
        Conflict
            The directory holds a log already.
        """
        with disk.storage():
            directory.mkdir(parents=True, exist_ok=True)
            if (directory / CHECKPOINT).exists() or (directory / "tile").exists():
                raise Conflict("the directory already holds a log")
            lock = disk.WriterLock(directory)
            raw = sign_checkpoint(Checkpoint(signer.key.name, 0, EMPTY_ROOT), signer)
            disk.replace(directory / CHECKPOINT, raw, durable=True)
            sync_folder(directory)
            sync_folder(directory.parent)
            lock.release()
        return cls(directory, signer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for a running commit, then release files and lock; harmless when repeated."""
        with self._turn():
            self._broken = True
            self._journal.close()
            self._lock.release()

    @property
    def key(self) -> VerifierKey:
        """The key that verifies this log's checkpoints."""
        return self._signer.key

    @property
    def size(self) -> int:
        """Number of entries that the latest checkpoint covers."""
        return Checkpoint.parse(Note.parse(self._checkpoint).text).size

    @property
    def reader(self) -> TileReader:
        """Reads entries and builds proofs; usable from any thread."""
        return self._reader

    @property
    def checkpoint(self) -> bytes:
        """The latest signed checkpoint, with the cosignatures it has so far."""
        return self._checkpoint

    # --- appending -------------------------------------------------------------------------

    def append(self, entry: bytes) -> Appended:
        """Append one entry; returns when it and a checkpoint that covers it are durable.

        Raises
        ------
        InvalidInput
            The entry is empty or longer than ``MAX_ENTRY`` bytes.
        StorageFull, Damaged
            Not acknowledged: the log stops, and reopening it tells whether the entry is there.
        """
        return self.append_many([entry])[0]

    def append_many(self, entries: Sequence[bytes]) -> list[Appended]:
        """Append entries next to each other, in order, with one group of fsyncs.

        Raises
        ------
        InvalidInput, StorageFull, Damaged
            See :meth:`append`; none of the entries is acknowledged.
        """
        if not entries or any(not 0 < len(entry) <= MAX_ENTRY for entry in entries):
            raise InvalidInput(f"log entries are 1 to {MAX_ENTRY} bytes long")
        ticket = _Ticket(tuple(entries))
        with self._idle:
            self._queue.append(ticket)
            self._idle.notify_all()
        with self._turn(ticket):
            if not ticket.done:
                self._commit_queue()
        if ticket.error is not None:
            raise ticket.error
        return ticket.result

    @contextmanager
    def _turn(self, ticket: _Ticket | None = None) -> Iterator[None]:
        """Wait for the one place in which the log changes, or until ``ticket`` is done."""
        with self._idle:
            self._idle.wait_for(lambda: not self._busy or (ticket is not None and ticket.done))
            mine = ticket is None or not ticket.done
            self._busy = self._busy or mine
        try:
            yield
        finally:
            if mine:
                with self._idle:
                    self._busy = False
                    self._idle.notify_all()

    def _commit_queue(self) -> None:
        """Commit every queued ticket, whoever queued it: that is what shares the fsyncs."""
        tickets = self._gather()
        begun = time.monotonic()
        first = self._builder.size
        # Stands unless the commit succeeds: after a failure memory and disk may differ, and
        # only reading the disk again can tell.
        failure: UndersealError | None = Damaged("the log has stopped", hint="reopen the log")
        try:
            if self._broken:
                return
            self._broken = True
            with disk.storage():
                self._commit([entry for ticket in tickets for entry in ticket.entries])
            self._broken, failure = False, None
        except UndersealError as error:
            failure = error
        finally:
            self._commit_seconds = time.monotonic() - begun
            for ticket in tickets:
                self._settle(ticket, first, failure)
                first += len(ticket.entries)

    def _gather(self) -> list[_Ticket]:
        """Take the queue, after a moment for the callers whom the last commit has just served.

        Without it they would miss this commit by microseconds, and commits would carry half of
        the callers in turn.
        """
        with self._idle:
            callers = self._callers + len(self._queue)
            if self._callers and callers > 1:
                patience = min(GATHER_SECONDS, GATHER_SHARE * self._commit_seconds)
                self._idle.wait_for(lambda: len(self._queue) >= callers, patience)
            tickets, self._queue = self._queue, []
            self._callers = len(tickets) if len(tickets) > 1 else 0
            return tickets

    def _settle(self, ticket: _Ticket, first: int, failure: UndersealError | None) -> None:
        ticket.error, ticket.done = failure, True
        if failure is None:
            indexes = range(first, first + len(ticket.entries))
            ticket.result = [Appended(index, self._checkpoint) for index in indexes]

    def _commit(self, entries: Sequence[bytes]) -> None:
        first = self._builder.size
        full = [file for entry in entries for file in self._builder.append(entry)]
        checkpoint = self._signed_head()
        self._journal.append(first, entries, checkpoint)
        self._publish(full, checkpoint, durable=bool(full))

    def _signed_head(self) -> bytes:
        head = Checkpoint(self.key.name, self._builder.size, self._builder.root())
        return sign_checkpoint(head, self._signer)

    def _publish(self, full: Sequence[TileFile], checkpoint: bytes, *, durable: bool) -> None:
        """Write tiles, then the checkpoint, then forget what the full files replace."""
        disk.write_files(self._directory, full, durable=True)
        self._write_partials()
        self._store_checkpoint(checkpoint, durable=durable)
        if full:
            tail = self._builder.entries
            self._journal.reset(self._builder.size - len(tail), tail)
        for file in full:
            shutil.rmtree(self._directory / f"{file.path}.p", ignore_errors=True)

    def _write_partials(self) -> None:
        """Write the partial files that are new: those of higher levels hardly ever change."""
        partials = self._builder.partials()
        new = [file for file in partials if file.path not in self._partials]
        disk.write_files(self._directory, new, durable=False)
        self._partials = {file.path for file in partials}

    def _store_checkpoint(self, raw: bytes, *, durable: bool) -> None:
        disk.replace(self._directory / CHECKPOINT, raw, durable=durable)
        if durable:
            sync_folder(self._directory)
        self._checkpoint = raw

    # --- proving ---------------------------------------------------------------------------

    def receipt(self, index: int, checkpoint: bytes | None = None, extra: bytes = b"") -> Receipt:
        """Return the offline receipt of an entry.

        Parameters
        ----------
        index
            The entry.
        checkpoint
            A signed checkpoint of this log that covers it, such as a cosigned one; default: the
            latest.
        extra
            Opaque data to carry along, not authenticated.

        Raises
        ------
        InvalidInput
            The checkpoint is older than the entry.
        Damaged
            The tiles on disk do not lead to the checkpoint's root.
        """
        signed = open_checkpoint(checkpoint or self._checkpoint, self.key)
        head = signed.checkpoint
        node = self._reader.nodes(self.size)
        path = inclusion_proof(node, index, head.size)
        check_inclusion(node(0, index), index, head.size, path, head.root)
        return Receipt(index, path, signed.raw, extra)

    def add_cosignatures(
        self, checkpoint: bytes, lines: bytes, witnesses: Sequence[VerifierKey]
    ) -> bytes:
        """Return ``checkpoint`` with a witness's answer added; publish it if still the latest.

        Raises
        ------
        Damaged, PermissionRefused
            Not signature lines; a known witness's cosignature does not verify.
        """
        cosigned = add_cosignatures(checkpoint, lines, witnesses)
        head = open_checkpoint(cosigned, self.key).checkpoint
        with self._turn(), disk.storage():
            latest = open_checkpoint(self._checkpoint, self.key).checkpoint
            if head == latest and not self._broken:
                cosigned_latest = add_cosignatures(self._checkpoint, lines, witnesses)
                self._store_checkpoint(cosigned_latest, durable=True)
        return cosigned

    def witness_request(self, old: int, checkpoint: bytes | None = None) -> WitnessRequest:
        """Return what to send to a witness that last cosigned size ``old``.

        Raises
        ------
        InvalidInput
            ``old`` is larger than the checkpoint's size: the witness has seen another log.
        """
        raw = checkpoint or self._checkpoint
        size = open_checkpoint(raw, self.key).checkpoint.size
        return WitnessRequest(old, consistency_proof(self._reader.nodes(self.size), old, size), raw)
