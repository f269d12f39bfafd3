"""The journal: entries that are durable before any tile or checkpoint speaks of them.

A frame is index (8 bytes), length (2 bytes), entry, SHA-256 of all that; integers big-endian.
The hash tells a frame that was written whole from one that a crash cut or left as zeros.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from underseal_core.tlog.disk import replace, sync_directory, write_all

NAME = "journal"
_HEAD = 10
_HASH = 32


def encode_frame(index: int, entry: bytes) -> bytes:
    """Return one frame."""
    body = index.to_bytes(8, "big") + len(entry).to_bytes(2, "big") + entry
    return body + hashlib.sha256(body).digest()


def decode_frames(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield (index, entry, end offset) of the whole frames at the start of ``data``."""
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

    def recover(self) -> list[tuple[int, bytes]]:
        """Return the whole frames on disk, cut off what follows them, and open for appending."""
        data = self._path.read_bytes() if self._path.exists() else b""
        found = []
        length = 0
        for index, entry, end in decode_frames(data):
            found.append((index, entry))
            length = end
        self._open()
        if length != len(data):
            os.ftruncate(self._descriptor, length)
            os.fsync(self._descriptor)
        return found

    def append(self, first: int, entries: Iterable[bytes]) -> None:
        """Write entries with indexes from ``first`` on and wait until they are durable."""
        frames = b"".join(encode_frame(first + i, entry) for i, entry in enumerate(entries))
        write_all(self._descriptor, frames)
        os.fsync(self._descriptor)

    def reset(self, first: int, entries: Iterable[bytes]) -> None:
        """Hold only ``entries`` from now on: all before ``first`` are in durable bundles."""
        frames = (encode_frame(first + i, entry) for i, entry in enumerate(entries))
        replace(self._path, b"".join(frames), durable=True)
        self._open()

    def _open(self) -> None:
        self.close()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._descriptor = os.open(self._path, flags, 0o600)
        sync_directory(self._directory)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
