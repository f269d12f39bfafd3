"""The body of ``add-checkpoint``, c2sp.org/tlog-witness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from underseal_core.errors import Damaged, InvalidInput
from underseal_core.tlog.checkpoint import parse_size
from underseal_core.tlog.note import MAX_NOTE, decode_base64, encode_base64

MAX_HASHES = 63


@dataclass(frozen=True, slots=True)
class WitnessRequest:
    """A checkpoint, and the proof that it extends the tree of size ``old``."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: bytes

    def to_bytes(self) -> bytes:
        """Return the request body."""
        lines = [f"old {self.old}", *(encode_base64(value) for value in self.proof), "", ""]
        return "\n".join(lines).encode() + self.checkpoint

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Parse a request body.

        Raises
        ------
        InvalidInput
            Malformed (HTTP 400).
        """
        head, _, checkpoint = raw.partition(b"\n\n")
        if len(raw) > 2 * MAX_NOTE or not checkpoint or not head.isascii():
            raise InvalidInput("malformed witness request")
        first, *lines = head.decode("ascii").split("\n")
        if not first.startswith("old ") or len(lines) > MAX_HASHES:
            raise InvalidInput("malformed witness request")
        try:
            old = parse_size(first.removeprefix("old "))
            proof = tuple(decode_base64(line) for line in lines)
        except Damaged as error:
            raise InvalidInput("malformed witness request") from error
        if any(len(value) != 32 for value in proof):
            raise InvalidInput("malformed witness request")
        return cls(old, proof, checkpoint)
