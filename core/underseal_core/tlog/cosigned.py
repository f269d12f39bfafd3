"""What a log keeps of its witnesses: for each, the newest checkpoint that it has cosigned.

Witnesses come by when they like, so their cosignatures are of different, mostly earlier
checkpoints than the one that is published. A receipt under each of them proves the same entry.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from underseal_core.durable import sync_folder
from underseal_core.errors import Conflict, Damaged, InvalidInput, NotFound, PermissionRefused
from underseal_core.tlog import disk
from underseal_core.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from underseal_core.tlog.log import TransparencyLog
from underseal_core.tlog.note import KeyKind, Note, VerifierKey
from underseal_core.tlog.proof import Receipt
from underseal_core.tlog.verifier import check_consistency

FOLDER: Final = "witnessed"
"""Below the log's; holds one signed note for each witness."""


class CosignedCheckpoints:
    """Takes and keeps the cosignatures of known witnesses. Thread-safe.

    Parameters
    ----------
    log
        Open for writing: the one that the witnesses look after.
    witnesses
        Their keys; nobody else's cosignature is kept.

    Raises
    ------
    InvalidInput
        A key is no cosignature key.
    Damaged
        A witness has cosigned what the log does not hold any more: it was rolled back.
    """

    def __init__(self, log: TransparencyLog, witnesses: Sequence[VerifierKey] = ()) -> None:
        if any(key.kind is not KeyKind.COSIGNATURE for key in witnesses):
            raise InvalidInput("a witness's key is a cosignature key")
        self._log, self._witnesses = log, tuple(witnesses)
        self._folder = log.reader.directory / FOLDER
        self._mutex = threading.Lock()
        self._kept: dict[VerifierKey, SignedCheckpoint] = {}
        for key in self._witnesses:
            found = self._read(key)
            if found is not None:
                self._check_held(found.checkpoint)
                self._kept[key] = found

    def add(self, raw: bytes) -> int:
        """Keep a checkpoint that a witness cosigned; publish it if it is still the newest.

        Returns
        -------
        int
            Its size.

        Raises
        ------
        InvalidInput
            Not a checkpoint.
        PermissionRefused
            Not of this log, or the cosignature of a known witness does not verify.
        NotFound
            No known witness has cosigned it.
        Conflict
            The witness has cosigned a larger log before.
        Damaged
            The log has signed it and does not hold it: it was rolled back or forked.
        """
        try:
            signed = open_checkpoint(raw, self._log.key, self._witnesses)
        except Damaged as error:
            raise InvalidInput(f"not a cosigned checkpoint: {error.public}") from error
        if not signed.witnessed:
            raise NotFound("the log does not know this witness", hint="ask its operator")
        self._check_held(signed.checkpoint)
        with self._mutex, disk.storage():
            for key in signed.witnessed:
                self._keep(key, signed)
        note = Note.parse(raw)
        lines = "".join(note.verified((key,))[key].line() for key in signed.witnessed)
        self._log.add_cosignatures(raw, lines.encode(), self._witnesses)
        return signed.checkpoint.size

    def receipts(self, index: int) -> tuple[Receipt, ...]:
        """Return receipts of an entry under each cosigned checkpoint that covers it.

        Witnesses that have cosigned the same checkpoint share a receipt.
        """
        with self._mutex:
            kept = [one for one in self._kept.values() if one.checkpoint.size > index]
        notes: dict[str, Note] = {}
        for one in kept:
            note = Note.parse(one.raw)
            shared = notes.setdefault(note.text, note)
            if shared is not note:
                cosignature = note.signatures[-1]
                notes[note.text] = Note(note.text, (*shared.signatures, cosignature))
        return tuple(self._log.receipt(index, note.to_bytes()) for note in notes.values())

    def _check_held(self, head: Checkpoint) -> None:
        """Check that the log, as it is now, extends a checkpoint that it has signed."""
        own = open_checkpoint(self._log.checkpoint, self._log.key).checkpoint
        if head.size == 0:
            return
        path: tuple[bytes, ...] = ()
        if head.size <= own.size:
            path = self._log.reader.prove_consistency(head.size, own.size)
        try:
            check_consistency(head.size, own.size, path, head.root, own.root)
        except Damaged as error:
            raise Damaged(
                f"a witness has cosigned another history of the log: {error.public}",
                hint="the log was rolled back or forked: restore it from a mirror",
            ) from error

    def _keep(self, key: VerifierKey, signed: SignedCheckpoint) -> None:
        """Store a checkpoint with the log's signature and this witness's, which comes last."""
        known = self._kept.get(key)
        if known is not None:
            before = known.checkpoint.size, known.witnessed[key]
            if signed.checkpoint.size < before[0]:
                raise Conflict(
                    f"witness {key.name} has cosigned a larger log before",
                    hint="a witness must not forget: restore what it has seen",
                )
            if (signed.checkpoint.size, signed.witnessed[key]) <= before:
                return
        note = Note.parse(signed.raw)
        found = note.verified((self._log.key, key))
        raw = Note(note.text, (found[self._log.key], found[key])).to_bytes()
        disk.make_directories(self._folder, self._folder.parent)
        disk.replace(self._path(key), raw, durable=True)
        sync_folder(self._folder)
        self._kept[key] = open_checkpoint(raw, self._log.key, (key,), quorum=1)

    def _read(self, key: VerifierKey) -> SignedCheckpoint | None:
        """Return what is kept of a witness; what a crash spoiled it will cosign again."""
        try:
            raw = self._path(key).read_bytes()
            return open_checkpoint(raw, self._log.key, (key,), quorum=1)
        except (OSError, Damaged, PermissionRefused):
            return None

    def _path(self, key: VerifierKey) -> Path:
        return self._folder / hashlib.sha256(key.vkey().encode()).hexdigest()
