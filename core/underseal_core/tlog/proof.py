"""Receipts that verify offline, c2sp.org/tlog-proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from underseal_core.errors import Damaged, InvalidInput
from underseal_core.tlog.checkpoint import SignedCheckpoint, open_checkpoint, parse_size
from underseal_core.tlog.note import MAX_NOTE, VerifierKey, decode_base64, encode_base64
from underseal_core.tlog.verifier import check_inclusion, hash_entry

HEADER = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63
"""A tree below 2**63 leaves is no deeper."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Entry ``index`` is in the tree of ``checkpoint``.

    Attributes
    ----------
    index
        Place of the entry in the log, from 0.
    path
        Inclusion proof, 32-byte hashes from the leaf's sibling to the root's child.
    checkpoint
        The signed note, byte for byte, cosignatures included.
    extra
        Opaque and not authenticated; empty when absent.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.index < 1 << 63 or len(self.path) > MAX_HASHES:
            raise InvalidInput("index or path of the receipt is out of range")

    def to_bytes(self) -> bytes:
        """Return the file format (extension ``.tlog-proof``)."""
        lines = [HEADER]
        if self.extra:
            lines.append(f"extra {encode_base64(self.extra)}")
        lines.append(f"index {self.index}")
        lines.extend(encode_base64(value) for value in self.path)
        return "\n".join([*lines, "", ""]).encode() + self.checkpoint

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Parse a receipt; nothing is verified yet.

        Raises
        ------
        Damaged
            Not a receipt.
        """
        head, blank, checkpoint = raw.partition(b"\n\n")
        if len(raw) > 2 * MAX_NOTE or not blank or not checkpoint or not head.isascii():
            raise Damaged("malformed receipt")
        lines = head.decode("ascii").split("\n")
        if lines.pop(0) != HEADER:
            raise Damaged("malformed receipt")
        extra = b""
        if lines and lines[0].startswith("extra "):
            extra = decode_base64(lines.pop(0).removeprefix("extra "))
        if not lines or not lines[0].startswith("index "):
            raise Damaged("malformed receipt")
        index = parse_size(lines.pop(0).removeprefix("index "))
        path = tuple(decode_base64(line) for line in lines)
        if len(path) > MAX_HASHES or any(len(value) != 32 for value in path):
            raise Damaged("malformed receipt")
        return cls(index, path, checkpoint, extra)


def verify_receipt(
    receipt: Receipt,
    entry: bytes,
    log: VerifierKey,
    witnesses: Sequence[VerifierKey] = (),
    *,
    quorum: int = 0,
) -> SignedCheckpoint:
    """Check that ``entry`` is logged, by keys known beforehand; needs no network and no log.

    Returns
    -------
    SignedCheckpoint
        With the times of the verified cosignatures.

    Raises
    ------
    Damaged
        Malformed, or the proof does not lead from the entry to the signed root.
    PermissionRefused
        Not this log's checkpoint, or fewer than ``quorum`` of ``witnesses`` cosigned it.
    """
    signed = open_checkpoint(receipt.checkpoint, log, witnesses, quorum=quorum)
    head = signed.checkpoint
    check_inclusion(hash_entry(entry), receipt.index, head.size, receipt.path, head.root)
    return signed
