"""Local copies of objects: bounded, those that were not used for longest go first.

A copy's name says which object it is of, in which version, and what it hashes to. It is hashed
whenever it is opened: a copy that was changed is deleted, and the object fetched again.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Final

import structlog

from underseal_core.gallery.disk import disk_errors, make_folder

_ID_DIGITS: Final = 40
_PART: Final = ".part"
_log: Final = structlog.get_logger("underseal.store")


class Cache:
    """Copies of objects in a folder of their own. Thread-safe.

    Parameters
    ----------
    folder
        Made when it does not exist. What an earlier server left there is used.
    limit
        Bytes. One copy that is larger than this is kept alone.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.limit = limit
        self._folder = folder
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        """Bytes of every copy by its name, least recently used first."""
        self._names: dict[str, str] = {}
        """The one copy of each object, in whatever version."""
        self.held = 0
        """Bytes of all copies."""
        with disk_errors():
            make_folder(folder)
            self._find()

    def part(self) -> Path:
        """Return where to write a new copy; :meth:`add` takes it from there."""
        return self._folder / (secrets.token_hex(8) + _PART)

    def open(self, key: str, version: str) -> BufferedReader | None:
        """Open the copy of an object; ``None`` when there is none that is sound."""
        with self._lock, disk_errors():
            name = self._names.get(_digest(key), "")
            if not name.startswith(_start(key, version)):
                return None
            self._sizes.move_to_end(name)
            path = self._folder / name
            try:
                file = path.open("rb")
            except FileNotFoundError:
                self._forget(name)
                return None
        with disk_errors():
            path.touch()  # the order of use, for the next start
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if name == _start(key, version) + digest:
            file.seek(0)
            return file
        file.close()
        _log.warning("a local copy was changed", copy=name)
        with self._lock, disk_errors():
            self._forget(name)
        return None

    def add(self, key: str, version: str, path: Path) -> BufferedReader:
        """Take a file as the copy of an object, in place of an older one, and open it.

        Parameters
        ----------
        key, version
            The object.
        path
            A whole file, on the same file system; it is moved.
        """
        with disk_errors():
            file = path.open("rb")
            size = path.stat().st_size
            name = _start(key, version) + hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            with self._lock:
                self._forget(self._names.get(_digest(key), ""))
                self._make_room(size)
                path.replace(self._folder / name)
                self._count(name, size)
        return file

    def drop(self, key: str) -> None:
        """Delete the copy of an object."""
        with self._lock, disk_errors():
            self._forget(self._names.get(_digest(key), ""))

    def strays(self, versions: Mapping[str, str]) -> list[Path]:
        """Return the copies that are not of these objects, given as versions by key."""
        wanted = {_start(key, version) for key, version in versions.items()}
        with self._lock:
            return [
                self._folder / n for n in self._sizes if f"{n.partition('.')[0]}." not in wanted
            ]

    def clear(self, copies: Iterable[Path]) -> None:
        """Delete copies."""
        with self._lock, disk_errors():
            for path in copies:
                self._forget(path.name)

    def _count(self, name: str, size: int) -> None:
        self._sizes[name] = size
        self._names[name.partition("-")[0]] = name
        self.held += size

    def _forget(self, name: str) -> None:
        if name in self._sizes:
            (self._folder / name).unlink(missing_ok=True)
            self.held -= self._sizes.pop(name)
            del self._names[name.partition("-")[0]]

    def _make_room(self, size: int) -> None:
        while self._sizes and self.held + size > self.limit:
            self._forget(next(iter(self._sizes)))

    def _find(self) -> None:
        found = sorted((path.stat().st_mtime, path) for path in self._folder.iterdir())
        for _, path in found:
            if path.suffix == _PART or path.name.partition("-")[0] in self._names:
                path.unlink()
            else:
                self._count(path.name, path.stat().st_size)
        self._make_room(0)


def _start(key: str, version: str) -> str:
    return f"{_digest(key)}-{_digest(version)}."


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]
