"""The journal: entries and the checkpoint that covers them, durable in one fsync.

A frame is index (8 bytes), length (2 bytes), content, SHA-256 of all that; integers big-endian.
The hash tells a frame that was written whole from one that a crash cut or left as zeros. The
content is the entry of that index, or with the index ``CHECKPOINT_INDEX`` a signed checkpoint.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from underseal_core.durable import sync_folder
from underseal_core.tlog.disk import replace, write_all

NAME = "journal"
CHECKPOINT_INDEX = 2**64 - 1
_HEAD = 10
_HASH = 32


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a journal holds: ``(index, entry)`` pairs, and its last checkpoint or nothing."""

    entries: list[tuple[int, bytes]]
    checkpoint: bytes


def encode_frame(index: int, entry: bytes) -> bytes:
    """Return one frame."""
    body = index.to_bytes(8, "big") + len(entry).to_bytes(2, "big") + entry
    return body + hashlib.sha256(body).digest()


def decode_frames(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield (index, content, end offset) of the whole frames at the start of ``data``."""
    offset = 0
    while offset + _HEAD + _HASH <= len(data):
        index = int.from_bytes(data[offset : offset + 8], "big")
        start = offset + _HEAD
        end = start + int.from_bytes(data[offset + 8 : start], "big")
        entry = data[start:end]
        offset = end + _HASH
        if encode_frame(index, entry) != data[start - _HEAD : offset]:
            return
        yield index, entry, offset


class Journal:
    """The open journal of a log. Not thread-safe: the log's commit lock guards it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / NAME
        self._descriptor = -1

    def recover(self) -> Recovered:
        """Return what the whole frames on disk hold, cut off the rest, and open for appending."""
        data = self._path.read_bytes() if self._path.exists() else b""
        found = Recovered([], b"")
        length = 0
        for index, content, end in decode_frames(data):
            if index == CHECKPOINT_INDEX:
                found = Recovered(found.entries, content)
            else:
                found.entries.append((index, content))
            length = end
        self._open()
        if length != len(data):
            os.ftruncate(self._descriptor, length)
            os.fsync(self._descriptor)
        return found

    def append(self, first: int, entries: Iterable[bytes], checkpoint: bytes) -> None:
        """Write entries with indexes from ``first`` on, then the checkpoint that covers them.

        Returns when all of it is durable.
        """
        frames = [encode_frame(first + i, entry) for i, entry in enumerate(entries)]
        frames.append(encode_frame(CHECKPOINT_INDEX, checkpoint))
        write_all(self._descriptor, b"".join(frames))
        os.fsync(self._descriptor)

    def reset(self, first: int, entries: Iterable[bytes]) -> None:
        """Hold only ``entries`` from now on.

        All before ``first`` are in durable bundles, and the checkpoint in a durable file.
        """
        frames = (encode_frame(first + i, entry) for i, entry in enumerate(entries))
        replace(self._path, b"".join(frames), durable=True)
        self._open()

    def _open(self) -> None:
        self.close()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._descriptor = os.open(self._path, flags, 0o600)
        sync_folder(self._directory)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
