"""Disks as a loss of power leaves them: made from the trace of what a server did to its own.

What is on such a disk is what was synced. Of a file: its content at its last sync. Of a folder:
the names at its last sync, those of folders too - or the names as they were, when the disk was
quick with these only.
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


@dataclass(eq=False)
class _Folder:
    """What is in it by name, and what was when it was synced. A new folder is not in its parent's
    synced names before the parent is synced, whatever was synced inside it."""

    names: dict[str, _File | _Folder] = field(default_factory=dict)
    synced: dict[str, _File | _Folder] = field(default_factory=dict)


@dataclass
class Remembered:
    """A folder with all in it, as it is and as it was synced. SQLite's shared memory is none."""

    root: _Folder = field(default_factory=_Folder)
    _inodes: dict[int, _File] = field(default_factory=dict)

    def apply(self, call: Call) -> None:
        """Do what a call did."""
        file, name = self._inodes.get(call.inode), PurePath(call.path).name
        match call.kind:
            case Kind.MKDIR if name:
                self._around(call.path)[name] = _Folder()
            case Kind.CREATE:
                self._inodes[call.inode] = made = _File(bytearray())
                self._around(call.path)[name] = made
            case Kind.SYNC if (folder := self._folder(call.path)) is not None:
                folder.synced = dict(folder.names)
            case Kind.SYNC if file is not None:
                file.synced = bytes(file.content)
            case Kind.WRITE if file is not None:
                end = call.offset + len(call.data)
                file.content.extend(bytes(max(0, end - len(file.content))))
                file.content[call.offset : end] = call.data
            case Kind.TRUNCATE if file is not None:
                del file.content[call.offset :]
                file.content.extend(bytes(call.offset - len(file.content)))
            case Kind.RENAME:
                self._around(call.other)[PurePath(call.other).name] = self._around(call.path).pop(
                    name
                )
            case Kind.LINK:
                self._around(call.other)[PurePath(call.other).name] = self._around(call.path)[name]
            case Kind.UNLINK | Kind.RMDIR:
                self._around(call.path).pop(name, None)

    def _folder(self, path: str) -> _Folder | None:
        """Return the folder that has this path now."""
        found: _File | _Folder | None = self.root
        for name in PurePath(path).parts:
            found = found.names.get(name) if isinstance(found, _Folder) else None
        return found if isinstance(found, _Folder) else None

    def _around(self, path: str) -> dict[str, _File | _Folder]:
        """Return the names in the folder that a path is in."""
        folder = self._folder(str(PurePath(path).parent))
        assert folder is not None, f"the trace has made no folder for {path}"
        return folder.names

    def left(self, *, names: bool) -> dict[str, bytes | None]:
        """Return what is left when the power goes now, folders as ``None``.

        Parameters
        ----------
        names
            Also those that were not synced: the disk was quick with them.
        """
        return dict(_left(self.root, PurePath(), names=names))


def _left(folder: _Folder, path: PurePath, *, names: bool) -> Iterator[tuple[str, bytes | None]]:
    for name, found in (folder.names if names else folder.synced).items():
        if isinstance(found, _Folder):
            yield str(path / name), None
            yield from _left(found, path / name, names=names)
        elif not name.endswith("-shm"):
            yield str(path / name), found.synced


def write(folder: Path, files: dict[str, bytes | None]) -> None:
    """Write such a disk."""
    folder.mkdir(mode=0o700)
    for name, data in files.items():
        if data is None:
            (folder / name).mkdir(mode=0o700)
        else:
            (folder / name).write_bytes(data)
