"""A witness, c2sp.org/tlog-witness: cosigns a log's checkpoint when the log only grew.

It remembers the latest checkpoint of each log on disk, before it answers: a log that shows two
histories gets no second cosignature, whoever asks and however often the witness restarts.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from underseal_core.durable import sync_folder
from underseal_core.errors import Conflict, Damaged, InvalidInput, NotFound
from underseal_core.tlog import disk
from underseal_core.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from underseal_core.tlog.note import KeyKind, Note, NoteSigner, VerifierKey
from underseal_core.tlog.verifier import check_consistency
from underseal_core.tlog.witness_request import WitnessRequest


class StaleSize(Conflict):
    """The request starts from another size than the witness last cosigned (HTTP 409).

    ``size`` is the one to start from; the body of the answer is that number and a newline.
    """

    def __init__(self, size: int) -> None:
        super().__init__("the witness has cosigned another size of this log", hint=f"use {size}")
        self.size = size


class Witness:
    """Cosigns checkpoints of known logs. Thread-safe; one process per directory."""

    def __init__(
        self,
        directory: Path,
        signer: NoteSigner,
        logs: Sequence[VerifierKey],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open or create the witness's memory.

        Parameters
        ----------
        directory
            Where the latest checkpoints are kept.
        signer
            A key of type 0x04 that signs nothing else.
        logs
            The keys of the logs; a key's name is the log's origin.
        clock
            POSIX time in seconds.

        Raises
        ------
        InvalidInput
            The key is no cosignature key, or two logs share an origin.
        Conflict
            Another process uses the directory.
        """
        if signer.key.kind is not KeyKind.COSIGNATURE:
            raise InvalidInput("a witness needs a cosignature key")
        self._logs: Mapping[str, VerifierKey] = {key.name: key for key in logs}
        if len(self._logs) != len(logs):
            raise InvalidInput("two logs share an origin")
        self._directory, self._signer, self._clock = directory, signer, clock
        self._mutex = threading.Lock()
        with disk.storage():
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = disk.WriterLock(directory)

    def close(self) -> None:
        """Let another process use the directory."""
        self._lock.release()

    def latest(self, origin: str) -> SignedCheckpoint | None:
        """Return the latest cosigned checkpoint of a log; ``None`` before the first.

        Raises
        ------
        NotFound
            The log is not known here (HTTP 404).
        Damaged
            The witness's memory was changed: it must not cosign this log until that is mended.
        """
        key = self._logs.get(origin)
        if key is None:
            raise NotFound("this witness does not know the log")
        path = self._path(origin)
        if not path.exists():
            return None
        return open_checkpoint(path.read_bytes(), key, (self._signer.key,), quorum=1)

    def add_checkpoint(self, body: bytes) -> bytes:
        """Answer ``add-checkpoint``: check, remember durably, cosign.

        Returns
        -------
        bytes
            One signature line.

        Raises
        ------
        InvalidInput
            Malformed, or the old size exceeds the new one (HTTP 400).
        NotFound
            Unknown origin (404).
        PermissionRefused
            Not signed by the log (403).
        StaleSize
            Start from another size (409).
        Damaged
            The proof does not verify: the log was rewritten, or the proof is wrong (422).
        """
        request = WitnessRequest.parse(body)
        signed = self._open(request.checkpoint)
        head = signed.checkpoint
        if request.old > head.size:
            raise InvalidInput("the old size exceeds the checkpoint's")
        with self._mutex, disk.storage():
            latest = self.latest(head.origin)
            known = latest.checkpoint.size if latest else 0
            if request.old != known:
                raise StaleSize(known)
            self._check_growth(latest, request, head)
            return self._remember(signed)

    def _open(self, raw: bytes) -> SignedCheckpoint:
        try:
            origin = Checkpoint.parse(Note.parse(raw).text).origin
        except Damaged as error:
            raise InvalidInput("malformed checkpoint") from error
        key = self._logs.get(origin)
        if key is None:
            raise NotFound("this witness does not know the log")
        return open_checkpoint(raw, key)

    @staticmethod
    def _check_growth(
        latest: SignedCheckpoint | None, request: WitnessRequest, head: Checkpoint
    ) -> None:
        if head.size == 0 and head.root != hashlib.sha256().digest():
            raise Damaged("the checkpoint of an empty log has another root")
        if latest is not None and latest.checkpoint.size:
            root = latest.checkpoint.root
            check_consistency(request.old, head.size, request.proof, root, head.root)
        elif request.proof:
            raise Damaged("the consistency proof must be empty here")

    def _remember(self, signed: SignedCheckpoint) -> bytes:
        """Store the checkpoint with the log's signature and ours, then give ours out."""
        note = Note.parse(signed.raw)
        key = self._logs[signed.checkpoint.origin]
        cosignature = self._signer.cosign(note.text, int(self._clock()))
        kept = Note(note.text, (note.verified((key,))[key], cosignature))
        path = self._path(key.name)
        disk.make_directories(path.parent, self._directory)
        disk.replace(path, kept.to_bytes(), durable=True)
        sync_folder(path.parent)
        return cosignature.line().encode()

    def _path(self, origin: str) -> Path:
        """Return the path that the monitoring prefix serves: ``<origin hash>/checkpoint``."""
        return self._directory / hashlib.sha256(origin.encode()).hexdigest() / "checkpoint"
