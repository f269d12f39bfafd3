"""The data folder as a whole: one server at a time, catalogue, galleries' files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from math import prod
from pathlib import Path
from typing import Final

import structlog

from underseal_core.errors import Busy, Damaged, InvalidInput, NotFound
from underseal_core.gallery.disk import disk_errors, make_folder
from underseal_core.gallery.memory import BlockMemory
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.ring.packing import packed_size
from underseal_core.scheme.evaluation import Evaluator, tiles_shape
from underseal_core.statements import utc_moment, utc_text
from underseal_server.store.amendments import Amendments
from underseal_server.store.arrivals import Arrivals
from underseal_server.store.database import Database
from underseal_server.store.digests import Digests
from underseal_server.store.earlier import refuse_earlier
from underseal_server.store.erasures import Erasures
from underseal_server.store.folders import Folders
from underseal_server.store.galleries import Galleries
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.history import Archives, Snapshots
from underseal_server.store.labels import Labels
from underseal_server.store.objects import Objects
from underseal_server.store.places import ObjectStorage, open_places
from underseal_server.store.records import Gallery, StoredUnit
from underseal_server.store.reencryption import Reencryption, Successor
from underseal_server.store.requests import Requests
from underseal_server.store.rotations import Rotations
from underseal_server.store.sqlite import SqliteDatabase
from underseal_server.store.templates import Templates
from underseal_server.store.transfer import Transfer
from underseal_server.store.units import Units

CATALOGUE: Final = "catalogue.sqlite"
BUNDLES: Final = "bundles"
SWITCHING_KEYS: Final = "switching"

_log: Final = structlog.get_logger("underseal.store")


def utc_now() -> datetime:
    """Return the present; passed in so that tests can replace it."""
    return datetime.now(UTC)


class Store:
    """An opened data folder.

    Parameters
    ----------
    folder
        Made when it does not exist.
    now
        The clock.
    catalogue
        URL of a PostgreSQL database; empty: SQLite in the folder.
    objects
        Where the files of units and blocks are; ``None``: in the folder.
    memory_limit
        Bytes of blocks that may be in memory; ``None``: all.
    tidy
        Delete what belongs to no gallery.

    Raises
    ------
    InvalidInput
        The folder or the database cannot be used, another server uses it, they do not belong
        together, or the folder is of an earlier form.
    Busy
        The database or the object storage cannot be reached.
    StorageFull, Damaged
        The catalogue cannot be opened.
    """

    def __init__(
        self,
        folder: Path,
        now: Callable[[], datetime] = utc_now,
        *,
        catalogue: str = "",
        objects: ObjectStorage | None = None,
        memory_limit: int | None = None,
        tidy: bool = True,
    ) -> None:
        self.folder = folder
        self.memory = BlockMemory(memory_limit)
        self._now = now
        self._ending = ExitStack()
        self._ending.callback(os.close, _lock(folder))
        try:
            refuse_earlier(folder / BUNDLES)
            with disk_errors():
                for name in (BUNDLES, SWITCHING_KEYS):
                    make_folder(folder / name)
                self._database = _open_catalogue(folder, catalogue)
            self._ending.callback(self._database.close)
            self.galleries = Galleries(self._database)
            fresh = not self.galleries.ids()
            self._places = open_places(folder, self._database.identity, objects, fresh=fresh)
            self._ending.callback(self._places.close)
            self.units = Units(self._database)
            self.templates = Templates(self._database)
            self.labels = Labels(self._database)
            self.digests = Digests(self._database)
            self._arrivals = Arrivals(self._database)
            self.requests = Requests(self._database)
            self.amendments = Amendments(self._database)
            self.erasures = Erasures(self._database)
            self.rotations = Rotations(self._database, self.units)
            self.snapshots = Snapshots(self._database)
            self.archives = Archives(self._database)
            self.transfer = Transfer(self._database)
            if tidy:
                self.sweep()
        except BaseException:
            self._ending.close()
            raise

    def close(self) -> None:
        """Close the catalogue and let other servers have the folder."""
        self._ending.close()

    @property
    def database(self) -> Database:
        """The catalogue's database, for who looks at all of it."""
        return self._database

    @property
    def identity(self) -> str:
        """Name of the catalogue, for good."""
        return self._database.identity

    def database_problems(self) -> list[str]:
        """Return what the catalogue's database finds wrong with itself."""
        return self._database.problems()

    def doubts(self) -> int:
        """Return how often it was left open whether a change was stored: see :class:`Database`."""
        return self._database.doubts

    def purge(self) -> None:
        """Drop what removals have left behind in the catalogue's files; see :class:`Database`.

        Where files are elsewhere, what could not be deleted there before is tried again.
        """
        self._database.purge()
        self._places.settle()

    @property
    def objects(self) -> Objects | None:
        """What is in object storage, if files are there."""
        return self._places if isinstance(self._places, Objects) else None

    def stray_copies(self) -> Sequence[Path]:
        """Return files in the cache that are not copies of what is in object storage now."""
        return self._places.stray_copies()

    def clock(self) -> str:
        """Return the present as statements write it."""
        return utc_text(self._now())

    def open_gallery(self, gallery: Gallery, evaluator: Evaluator) -> GalleryStore:
        """Open a gallery's files; see :class:`GalleryStore`."""
        catalogue = (
            self.units,
            self.templates,
            self._arrivals,
            self.digests,
            self.snapshots,
            self.amendments,
        )
        folders = self.folders(gallery)
        opened = GalleryStore(gallery, catalogue, folders, evaluator, self.clock, self.memory)
        self._sweep_former(gallery)
        return opened

    def _sweep_former(self, gallery: Gallery) -> None:
        """Do what :meth:`forget_former` would have done before a crash."""
        former = list(self._former(gallery))
        if former:
            names = {unit.name for unit in self.units.live(gallery)}
            for files in former:
                files.sweep(names)

    def _former(self, gallery: Gallery) -> Iterator[UnitFiles]:
        """Yield the units that are kept of the key epochs that a gallery has left."""
        for epoch in self.rotations.left(gallery):
            units = self._places.units_of(gallery.id, epoch)
            if units is not None:
                yield UnitFiles(units, gallery.profile, gallery.dimension)

    def open_reencryption(self, opened: GalleryStore, successor: Successor) -> Reencryption:
        """Begin, or go on with, a gallery's way to a new key epoch."""
        gallery = opened.gallery
        new = self._places.of(gallery.id, successor.move.new_epoch)
        catalogue = (self.units, self.rotations)
        return Reencryption(gallery, successor, catalogue, opened.files, new, self.memory)

    def delete_old_files(self, gallery: Gallery, keep: timedelta) -> None:
        """Delete the files of the key epochs that a gallery has left.

        Parameters
        ----------
        keep
            How long the units stay, for auditors who have not seen all of them yet.
        """
        for epoch, moved_at in self.rotations.left(gallery).items():
            over = utc_moment(moved_at) + keep <= self._now()
            self._places.delete_epoch(gallery.id, epoch, with_units=over)

    def forget_left_blocks(self, gallery: Gallery) -> bool:
        """Delete the blocks of the key epochs that a gallery has left: sums with what was removed.

        Returns
        -------
        bool
            Whether all of them are gone.
        """
        left, delete = self.rotations.left(gallery), self._places.delete_epoch
        gone = [delete(gallery.id, epoch, with_units=False) for epoch in left]
        return all(gone)

    def old_units(self, gallery: Gallery, epoch: str) -> UnitFiles:
        """Return the units of a key epoch that a gallery has left, as far as they are kept.

        Raises
        ------
        NotFound
            The gallery was never of this epoch, or its units are deleted.
        """
        left = epoch in self.rotations.left(gallery)
        units = self._places.units_of(gallery.id, epoch) if left else None
        if units is None:
            raise NotFound("units of this key epoch are not kept any more")
        return UnitFiles(units, gallery.profile, gallery.dimension)

    def forget_former(self, gallery: Gallery, unit: StoredUnit) -> bool:
        """Delete what is kept of a unit as it was under key epochs that the gallery has left.

        An amendment stands for all that was signed before, and a removed unit is fetched no more,
        so no auditor needs it.

        Returns
        -------
        bool
            Whether all of it is gone.
        """
        names = {unit.token, unit.name, *([] if unit.former is None else [unit.former.name])}
        gone = True
        try:
            for files in self._former(gallery):
                for name in names:
                    files.remove(name)
                    gone &= not files.exists(name)
        except (Busy, Damaged) as error:
            _log.warning("units of key epochs that were left stay", reason=error.public)
            return False
        return gone

    def bytes_stored(self, gallery: Gallery, blocks: int) -> int:
        """Return the bytes of a gallery's unit files, and of the tiles of ``blocks`` on disk."""
        profile, level = gallery.profile, gallery.profile.gallery_level
        residues = prod(tiles_shape(profile, gallery.dimension)) // level
        block = packed_size(profile.data_primes[:level], (level, residues))
        return self.units.bytes_stored(gallery) + blocks * block

    def delete_gallery(self, gallery: Gallery) -> None:
        """Delete a gallery, its catalogue rows first: what is left over is swept at the start."""
        self.galleries.delete(gallery)
        self._places.delete_gallery(gallery.id)

    def folders(self, gallery: Gallery) -> Folders:
        """Return where the files of a gallery's key epoch are."""
        return self._places.of(gallery.id, gallery.spec.pin.key_epoch)

    def sweep(self) -> None:
        """Delete what belongs to no gallery, or to one that came in but in part."""
        self.transfer.forget_unfinished()
        known = {str(number) for number in self.galleries.ids()}
        for name in self._places.galleries() - known:
            if name.isdigit():
                self._places.delete_gallery(int(name))


def _open_catalogue(folder: Path, url: str) -> Database:
    if not url:
        return SqliteDatabase(folder / CATALOGUE)
    # Imported here: its driver is an extra.
    from underseal_server.store.postgresql import PostgresDatabase

    return PostgresDatabase(url)


def _lock(folder: Path) -> int:
    try:
        make_folder(folder)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidInput(
            f"cannot use the data folder {folder}",
            hint="the server and its check write there; of a read-only disk, check a copy",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise InvalidInput(
            f"the data folder {folder} is used by another server", hint="stop that one first"
        ) from error
    return descriptor
