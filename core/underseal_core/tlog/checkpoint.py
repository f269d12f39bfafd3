"""Checkpoints: signed tree heads, c2sp.org/tlog-checkpoint.

A log is named by its verifier key: the key's name is the origin line. Nothing here reads files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from underseal_core.errors import Damaged, InvalidInput, PermissionRefused
from underseal_core.tlog.note import (
    KeyKind,
    Note,
    NoteSignature,
    NoteSigner,
    VerifierKey,
    decode_base64,
    encode_base64,
)

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def parse_size(text: str) -> int:
    """Parse a decimal without leading zeroes, below 2**63.

    Raises
    ------
    Damaged
        Anything else.
    """
    if not _SIZE.fullmatch(text) or int(text) >= 1 << 63:
        raise Damaged("not a tree size")
    return int(text)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tree with ``size`` leaves of log ``origin`` has this ``root`` (32 bytes)."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lines = (self.origin, *self.extensions)
        if any(not line or "\n" in line for line in lines) or self.origin == "cosignature/v1":
            raise InvalidInput("origin and extensions of a checkpoint are lines with text")
        if not 0 <= self.size < 1 << 63 or len(self.root) != 32:
            raise InvalidInput("a checkpoint needs a tree size and a 32-byte root")

    def text(self) -> str:
        """Return the note text that is signed."""
        lines = (self.origin, str(self.size), encode_base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a note text.

        Raises
        ------
        Damaged
            Not a checkpoint.
        """
        origin, *rest = text.split("\n")
        if len(rest) < 3 or rest.pop() != "":
            raise Damaged("malformed checkpoint")
        root = decode_base64(rest[1])
        try:
            return cls(origin, parse_size(rest[0]), root, tuple(rest[2:]))
        except InvalidInput as error:
            raise Damaged("malformed checkpoint") from error


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint whose log signature has been verified, with its cosignatures.

    Attributes
    ----------
    checkpoint
        What the log signed.
    raw
        The whole note, as received.
    witnessed
        Verified cosignatures: witness key -> POSIX time in seconds.
    """

    checkpoint: Checkpoint
    raw: bytes
    witnessed: dict[VerifierKey, int]


def sign_checkpoint(checkpoint: Checkpoint, signer: NoteSigner) -> bytes:
    """Return the signed note. The signer's name must be the origin.

    Raises
    ------
    InvalidInput
        Another log's key.
    """
    if signer.key.name != checkpoint.origin:
        raise InvalidInput("the key's name is not the checkpoint's origin")
    text = checkpoint.text()
    return Note(text, (signer.sign(text),)).to_bytes()


def open_checkpoint(
    raw: bytes, log: VerifierKey, witnesses: Sequence[VerifierKey] = (), *, quorum: int = 0
) -> SignedCheckpoint:
    """Verify a checkpoint of ``log`` and the cosignatures of known witnesses.

    Parameters
    ----------
    raw
        The signed note.
    log
        The log's key; its name is the only origin accepted.
    witnesses
        Cosignature keys (type 0x04); lines of other keys are ignored.
    quorum
        How many of ``witnesses`` must have cosigned.

    Raises
    ------
    Damaged
        Not a checkpoint.
    PermissionRefused
        Another origin, no valid signature of the log, too few cosignatures.
    InvalidInput
        A witness's key is not of type 0x04.
    """
    if any(key.kind is not KeyKind.COSIGNATURE for key in witnesses):
        raise InvalidInput("a witness's key is a cosignature key")
    note = Note.parse(raw)
    signatures = note.verified((log, *witnesses))
    if log not in signatures:
        raise PermissionRefused("the checkpoint is not signed by the expected log")
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != log.name:
        raise PermissionRefused("the checkpoint is of another log")
    witnessed = {key: s.timestamp() for key, s in signatures.items() if key in witnesses}
    # The type 0x04 message does not hold the cosigner's name: count keys, not names.
    if len({key.public_key for key in witnessed}) < quorum:
        raise PermissionRefused("too few witnesses have cosigned the checkpoint")
    return SignedCheckpoint(checkpoint, raw, witnessed)


def add_cosignatures(raw: bytes, lines: bytes, witnesses: Sequence[VerifierKey]) -> bytes:
    """Return the checkpoint with the valid cosignatures of known witnesses added.

    ``lines`` is a witness's answer. Lines of unknown keys, and keys that are there already, are
    left out.

    Raises
    ------
    Damaged
        Not signature lines.
    PermissionRefused
        A known witness's cosignature does not verify.
    """
    note = Note.parse(raw)
    answer = Note.parse(note.text.encode() + b"\n" + lines)
    present = {(s.name, s.key_id) for s in note.signatures}
    new: list[NoteSignature] = []
    for key, signature in answer.verified(witnesses).items():
        if (key.name, key.key_id) not in present:
            new.append(signature)
    return Note(note.text, note.signatures + tuple(new)).to_bytes()
