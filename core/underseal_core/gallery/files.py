"""Where the bytes of units and checkpoints are: whole files, put at once, read, deleted.

Everything above reaches them through :class:`Files`. On a disk that is one folder; a server may
keep them elsewhere, and then has local copies of what it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from underseal_core.durable import sync_folder
from underseal_core.gallery.disk import disk_errors, make_folder


class Files(Protocol):
    """The files of one folder. Thread-safe.

    Every method may raise ``Damaged`` (the storage failed), ``StorageFull`` (no room) and, where
    the storage is another machine, ``Busy`` (it cannot be reached; nothing was changed).
    """

    @property
    def folder(self) -> Path:
        """A local folder, in which files are written before they are put."""

    def put(self, files: Sequence[tuple[Path, str]]) -> None:
        """Take synced files out of :attr:`folder` and store them under names, durably.

        What had a name before is replaced at once. After an error some may have their names.
        """

    def open(self, name: str) -> BufferedReader:
        """Open a file for reading. Raises ``Damaged`` when there is none."""

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return a piece of a file, shorter where it ends. Raises ``Damaged`` as :meth:`open`."""

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""

    def sizes(self) -> Mapping[str, int]:
        """Return the bytes of every file, also of those that were never put."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete files, durably; fine when they are gone."""


class LocalFiles:
    """A folder on the disk; made when it does not exist."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with disk_errors():
            make_folder(folder)

    @property
    def folder(self) -> Path:
        """See :class:`Files`."""
        return self._folder

    def put(self, files: Sequence[tuple[Path, str]]) -> None:
        """See :class:`Files`: renamed, with one sync for all."""
        with disk_errors():
            for path, name in files:
                path.replace(self._folder / name)
            sync_folder(self._folder)

    def open(self, name: str) -> BufferedReader:
        """See :class:`Files`."""
        with disk_errors():
            return (self._folder / name).open("rb")

    def read(self, name: str, start: int, length: int) -> bytes:
        """See :class:`Files`."""
        with disk_errors(), (self._folder / name).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def exists(self, name: str) -> bool:
        """See :class:`Files`."""
        return (self._folder / name).exists()

    def sizes(self) -> Mapping[str, int]:
        """See :class:`Files`."""
        with disk_errors():
            return {path.name: path.stat().st_size for path in self._folder.iterdir()}

    def delete(self, names: Iterable[str]) -> None:
        """See :class:`Files`."""
        with disk_errors():
            for name in names:
                (self._folder / name).unlink(missing_ok=True)
            sync_folder(self._folder)


class Readable(Protocol):
    """A file that is there, wherever that is. Errors as of :class:`Files`."""

    def open(self) -> BufferedReader:
        """Open it, from its beginning."""

    def read(self, start: int, length: int) -> bytes:
        """Return a piece of it, shorter where it ends."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file among others; need not exist."""

    files: Files
    name: str

    def exists(self) -> bool:
        """Whether there is one."""
        return self.files.exists(self.name)

    def open(self) -> BufferedReader:
        """Open it; see :meth:`Files.open`."""
        return self.files.open(self.name)

    def read(self, start: int, length: int) -> bytes:
        """Return a piece of it; see :meth:`Files.read`."""
        return self.files.read(self.name, start, length)

    def delete(self) -> None:
        """Delete it; fine when it is gone."""
        self.files.delete([self.name])


def local_file(path: Path) -> StoredFile:
    """Return a file of this disk; its folder is made when it does not exist."""
    return StoredFile(LocalFiles(path.parent), path.name)
