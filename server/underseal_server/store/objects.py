"""Galleries' files as objects, each with a local copy while it is used."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import Final

import structlog

from underseal_core.errors import Busy, Damaged
from underseal_core.gallery.disk import disk_errors, make_folder
from underseal_server.store.bucket import Bucket
from underseal_server.store.cache import Cache
from underseal_server.store.folders import BLOCKS, PARTS, UNITS, Folders, epoch_name, part_name

UPLOADS: Final = 8
"""Requests at a time for files that are put together."""

_log: Final = structlog.get_logger("underseal.store")


class ObjectFiles:
    """The objects under one prefix, as :class:`underseal_core.gallery.files.Files`.

    Parameters
    ----------
    storage
        Where they are.
    prefix
        Of their keys; ends with a slash.
    folder
        For files that are being written; made when it does not exist.
    replaced
        Whether names are given again to other content. One server uses the storage, so it knows
        the versions of what it has listed or put.
    """

    def __init__(self, storage: Objects, prefix: str, folder: Path, *, replaced: bool) -> None:
        self._bucket, self._cache, self._storage = storage.bucket, storage.cache, storage
        self._prefix = prefix
        self._folder = folder
        self._replaced = replaced
        self._known: dict[str, tuple[int, str]] = {}
        """Bytes and version of files that are replaced."""
        self._listed = False
        with disk_errors():
            make_folder(folder)

    @property
    def folder(self) -> Path:
        """See ``Files``."""
        return self._folder

    def put(self, files: Sequence[tuple[Path, str]]) -> None:
        """See ``Files``: uploaded, several at a time; each becomes a local copy."""
        self._storage.keep(self._prefix + name for _, name in files)
        for _ in self._storage.uploads.map(self._put, files):
            pass

    def _put(self, file: tuple[Path, str]) -> None:
        path, name = file
        key, size = self._prefix + name, path.stat().st_size
        self._known.pop(name, None)
        try:
            version = self._bucket.put(key, path)
        except BaseException:
            self._listed = False  # it may be there yet
            raise
        self._note(name, size, version)
        self._cache.add(key, self._version(name), path).close()

    def open(self, name: str) -> BufferedReader:
        """See ``Files``: the local copy, fetched when there is none that is sound."""
        key = self._prefix + name
        if not self._storage.copies:
            return self._fetched(key)
        copy = self._cache.open(key, self._version(name))
        if copy is not None:
            return copy
        part, deletions = self._cache.part(), self._storage.deletions
        try:
            self._note(name, *self._bucket.fetch(key, part))
            file = self._cache.add(key, self._version(name), part)
        finally:
            part.unlink(missing_ok=True)
        if self._storage.deletions != deletions:  # of this object, perhaps: no copy outlives it
            self._cache.drop(key)
        return file

    def _fetched(self, key: str) -> BufferedReader:
        """Open the object itself."""
        part = self._cache.part()
        try:
            self._bucket.fetch(key, part)
            with disk_errors():
                return part.open("rb")
        finally:
            part.unlink(missing_ok=True)

    def read(self, name: str, start: int, length: int) -> bytes:
        """See ``Files``: of the local copy, or just this piece."""
        found = self._storage.copies
        copy = self._cache.open(self._prefix + name, self._version(name)) if found else None
        if copy is None:
            return self._bucket.read(self._prefix + name, start, length)
        with copy, disk_errors():
            copy.seek(start)
            return copy.read(length)

    def exists(self, name: str) -> bool:
        """See ``Files``."""
        if name in self._known:
            return True
        return not self._listed and self._bucket.find(self._prefix + name) is not None

    def sizes(self) -> Mapping[str, int]:
        """See ``Files``: what was listed once is known from then on."""
        with disk_errors():
            found = {path.name: path.stat().st_size for path in self._folder.iterdir()}
        if self._listed:
            return found | {name: size for name, (size, _) in self._known.items()}
        for key, (size, version) in self._bucket.under(self._prefix).items():
            name = key.removeprefix(self._prefix)
            self._note(name, size, version)
            found[name] = size
        self._listed = self._replaced
        return found

    def delete(self, names: Iterable[str]) -> None:
        """See ``Files``: what cannot be reached is deleted as soon as it can be."""
        gone = list(names)
        with disk_errors():
            for name in gone:
                (self._folder / name).unlink(missing_ok=True)
                self._known.pop(name, None)
        self._storage.delete(self._prefix + name for name in gone)

    def _note(self, name: str, size: int, version: str) -> None:
        if self._replaced:
            self._known[name] = size, version

    def _version(self, name: str) -> str:
        if not self._replaced:
            return ""
        if name not in self._known:
            found = self._bucket.find(self._prefix + name)
            if found is None:
                raise Damaged("an object is missing in the storage")
            self._known[name] = found
        return self._known[name][1]


class Objects:
    """Everything that a catalogue has in object storage; see :class:`Places`.

    Parameters
    ----------
    data
        The data folder.
    bucket
        The storage.
    cache
        Of local copies.
    copies
        Whether a sound copy is read in place of its object.
    """

    def __init__(self, data: Path, bucket: Bucket, cache: Cache, *, copies: bool = True) -> None:
        self.copies = copies
        self.bucket = bucket
        self.cache = cache
        self.uploads = ThreadPoolExecutor(UPLOADS, "upload")
        self._data = data
        self._lock = threading.Lock()
        self._leaving: set[str] = set()
        """Keys of objects that could not be deleted yet."""
        self._opened: dict[str, ObjectFiles] = {}
        """By the folder: what is known of its objects is known to everybody."""
        self.deletions = 0
        """How often objects were deleted."""
        self._swept = False

    def close(self) -> None:
        """Wait for uploads, and try once more to delete what should be gone."""
        self.uploads.shutdown()
        self._delete_leaving()

    def of(self, gallery: int, epoch: str) -> Folders:
        """See :class:`Places`."""
        return Folders(
            self._files(UNITS, gallery, epoch, replaced=False),
            self._files(BLOCKS, gallery, epoch, replaced=True),
        )

    def _files(self, part: str, gallery: int, epoch: str, *, replaced: bool) -> ObjectFiles:
        name = part_name(part, gallery, epoch)
        with self._lock:
            if name not in self._opened:
                folder = self._data / name
                self._opened[name] = ObjectFiles(self, name + "/", folder, replaced=replaced)
            return self._opened[name]

    def units_of(self, gallery: int, epoch: str) -> ObjectFiles | None:
        """See :class:`Places`."""
        if epoch_name(epoch) not in self.bucket.folders(f"{UNITS}/{gallery}"):
            return None
        return self._files(UNITS, gallery, epoch, replaced=False)

    def delete_epoch(self, gallery: int, epoch: str, *, with_units: bool) -> bool:
        """See :class:`Places`."""
        parts = PARTS if with_units else (BLOCKS,)
        gone = [self._delete_under(part_name(part, gallery, epoch)) for part in parts]
        return all(gone)

    def delete_gallery(self, gallery: int) -> None:
        """See :class:`Places`."""
        for part in PARTS:
            self._delete_under(f"{part}/{gallery}")

    def galleries(self) -> frozenset[str]:
        """See :class:`Places`."""
        return frozenset(name for part in PARTS for name in self.bucket.folders(part))

    def _delete_under(self, prefix: str) -> bool:
        """Delete objects, and what was written here for them; return whether all are gone."""
        with self._lock:
            for name in [name for name in self._opened if f"{name}/".startswith(prefix + "/")]:
                del self._opened[name]
        shutil.rmtree(self._data / prefix, ignore_errors=True)
        try:
            keys = self.bucket.under(prefix)
        except Busy as error:
            _log.warning("not deleted yet", reason=error.public)  # swept at the next start
            return False
        gone = not keys or self.delete(keys)
        return gone and not (self._data / prefix).exists()

    def delete(self, keys: Iterable[str]) -> bool:
        """Delete objects and their copies, now or when the storage is there again.

        Returns
        -------
        bool
            Whether they are gone.
        """
        gone = list(keys)
        self.deletions += 1
        for key in gone:
            self.cache.drop(key)
        with self._lock:
            self._leaving.update(gone)
        self._delete_leaving()
        with self._lock:
            return self._leaving.isdisjoint(gone)

    def keep(self, keys: Iterable[str]) -> None:
        """Take note that objects are about to be stored under these keys again."""
        with self._lock:
            self._leaving.difference_update(keys)

    def settle(self) -> None:
        """Delete what could not be deleted before, and what an earlier server left in the cache.

        That may be copies of what is gone or replaced by now: a server elsewhere did it, or this
        one was killed before it had both.
        """
        self._delete_leaving()
        if not self._swept:
            self.cache.clear(self.stray_copies())
            self._swept = True

    def stray_copies(self) -> Sequence[Path]:
        """See :class:`Places`."""
        if not self.cache.held:
            return ()
        found = self.bucket.under("")
        blocks = f"{BLOCKS}/"
        return self.cache.strays(
            {key: v if key.startswith(blocks) else "" for key, (_, v) in found.items()}
        )

    def _delete_leaving(self) -> None:
        with self._lock:
            if self._leaving:
                try:
                    self.bucket.delete(self._leaving)
                    self._leaving.clear()
                except (Busy, Damaged) as error:
                    count, reason = len(self._leaving), error.public
                    _log.warning("objects not deleted yet", count=count, reason=reason)
