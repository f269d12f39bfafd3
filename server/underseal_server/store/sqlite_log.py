"""Finds out whether SQLite ignored a part of its log that was committed once.

SQLite takes the first page of its write-ahead log whose checksum is wrong for the log's end, as a
crash leaves it, and drops what follows without a word. But a crash tears the last transaction
only: where a whole one follows, written to the same log, something in between was changed later.

Format: https://sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HEADER: Final = struct.Struct(">6I8s")
"""Magic number, version, page size, checkpoints, two salts, checksum."""
_FRAME: Final = struct.Struct(">II8s8s")
"""Page, pages of the database after a commit or 0, salts, checksum up to here."""
_BIG_ENDIAN: Final = 0x377F0683
_PAGE: Final = 4096


@dataclass(frozen=True, slots=True)
class _Frame:
    page: int
    commits: bool
    salts: bytes
    checksum: bytes
    covered: bytes
    """What the checksum adds to that of the frame before: part of the header, and the page."""


class Log:
    """A database's log as it is before SQLite opens it.

    Parameters
    ----------
    path, log
        The database and its log; neither needs to exist.
    """

    def __init__(self, path: Path, log: Path) -> None:
        self._path = path
        self._data = log.read_bytes() if log.exists() else b""
        self._page = _page_size(path)

    def lost(self, used: int) -> bool:
        """Say whether committed pages are neither in the log that is used nor in the database.

        Parameters
        ----------
        used
            How many pages from the log's beginning SQLite found sound, all of which are in the
            database's file by now.
        """
        if len(self._data) < _HEADER.size:
            return False
        magic, *_, first, second, before = _HEADER.unpack_from(self._data)
        frames = list(self._frames())
        salts = struct.pack(">II", first, second)
        if not used and frames:
            salts = frames[0].salts  # the log's header itself may be what was changed
        order = ">" if magic == _BIG_ENDIAN else "<"
        end = 0
        for number, frame in enumerate(frames):
            whole = frame.checksum == _checksum(before, frame.covered, order)
            if number >= used and frame.commits and frame.salts == salts and whole:
                end = number + 1
            before = frame.checksum
        pages = {one.page: one.covered[8:] for one in frames[used:end] if one.salts == salts}
        return any(self._stored(number) != page for number, page in pages.items())

    def _frames(self) -> Iterator[_Frame]:
        size = _FRAME.size + self._page
        for start in range(_HEADER.size, len(self._data) - size + 1, size):
            page, commits, salts, checksum = _FRAME.unpack_from(self._data, start)
            covered = self._data[start : start + 8] + self._data[start + _FRAME.size : start + size]
            yield _Frame(page, commits != 0, salts, checksum, covered)

    def _stored(self, number: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek((number - 1) * self._page)
            return file.read(self._page)


def _page_size(path: Path) -> int:
    head = b""
    if path.exists():
        with path.open("rb") as file:
            head = file.read(18)
    size = int.from_bytes(head[16:18], "big")
    return 65536 if size == 1 else size or _PAGE


def _checksum(before: bytes, data: bytes, order: str) -> bytes:
    """Continue SQLite's checksum; stored big-endian, computed over words of ``order``."""
    first, second = struct.unpack(">II", before)
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return struct.pack(">II", first, second)
