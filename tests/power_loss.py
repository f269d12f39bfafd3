"""Disks as a loss of power leaves them: made from the trace of what a server did to its own.

What is on such a disk is what was synced. Of a file: its content at its last sync. Of a folder:
the names at its last sync - or the names as they were, when the disk was quick with these only.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from tests.disk_faults import Kind

_RECORD = struct.Struct("=IIIIQqQ")


@dataclass(frozen=True)
class Call:
    """One call of the trace."""

    kind: Kind
    inode: int
    offset: int
    path: str
    other: str
    data: bytes


def calls(trace: Path) -> Iterator[Call]:
    """Read a trace that :meth:`tests.disk_faults.Disk.watch` has let be written."""
    data = trace.read_bytes()
    place = 0
    while place < len(data):
        kind, path, other, _, inode, offset, size = _RECORD.unpack_from(data, place)
        ends = [place + _RECORD.size]
        for length in (path, other, size):
            ends.append(ends[-1] + length)
        parts = [data[start:end] for start, end in itertools.pairwise(ends)]
        yield Call(Kind(kind), inode, offset, parts[0].decode(), parts[1].decode(), parts[2])
        place = ends[-1]


@dataclass(eq=False)
class _File:
    content: bytearray
    synced: bytes = b""


@dataclass
class Remembered:
    """A folder's files, as they are and as they were synced. SQLite's shared memory is none."""

    names: dict[str, _File] = field(default_factory=dict)
    synced: dict[str, _File] = field(default_factory=dict)
    _inodes: dict[int, _File] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Remembered:
        """Begin with a folder in which everything is synced."""
        made = cls()
        for path in folder.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                file = _File(bytearray(data), data)
                made.names[str(path.relative_to(folder))] = file
                made._inodes[path.stat().st_ino] = file
        made.synced = dict(made.names)
        return made

    def apply(self, call: Call) -> None:
        """Do what a call did."""
        file = self._inodes.get(call.inode)
        match call.kind:
            case Kind.CREATE:
                self.names[call.path] = self._inodes[call.inode] = _File(bytearray())
            case Kind.WRITE if file is not None:
                end = call.offset + len(call.data)
                file.content.extend(bytes(max(0, end - len(file.content))))
                file.content[call.offset : end] = call.data
            case Kind.TRUNCATE if file is not None:
                del file.content[call.offset :]
                file.content.extend(bytes(call.offset - len(file.content)))
            case Kind.SYNC if file is not None:
                file.synced = bytes(file.content)
            case Kind.SYNC:
                self._sync_names(call.path)
            case Kind.RENAME:
                self.names[call.other] = self.names.pop(call.path)
            case Kind.LINK:
                self.names[call.other] = self.names[call.path]
            case Kind.UNLINK:
                self.names.pop(call.path, None)

    def _sync_names(self, folder: str) -> None:
        def inside(path: str) -> bool:
            return PurePath(path).parent == PurePath(folder)

        self.synced = {path: file for path, file in self.synced.items() if not inside(path)}
        self.synced.update((path, file) for path, file in self.names.items() if inside(path))

    def left(self, *, names: bool) -> dict[str, bytes]:
        """Return what is left when the power goes now; ``names``: also those not synced."""
        found = self.names if names else self.synced
        return {path: file.synced for path, file in found.items() if not path.endswith("-shm")}


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write such a disk."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
