"""Where a gallery's files are: those of each key epoch apart."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from underseal_core.durable import sync_folder
from underseal_core.gallery.disk import disk_errors, make_folder
from underseal_core.gallery.files import Files, LocalFiles

UNITS: Final = "units"
BLOCKS: Final = "blocks"
PARTS: Final = (UNITS, BLOCKS)
_EPOCH_DIGITS: Final = 16

_log: Final = structlog.get_logger("underseal.store")


def epoch_name(epoch: str) -> str:
    """Return the name of a key epoch's folders."""
    return epoch[:_EPOCH_DIGITS]


def part_name(part: str, gallery: int, epoch: str) -> str:
    """Return where files of a gallery under a key epoch are, below what holds all of them."""
    return f"{part}/{gallery}/{epoch_name(epoch)}"


@dataclass(frozen=True, slots=True)
class Folders:
    """Files of one gallery under one key epoch."""

    units: Files
    blocks: Files


class Places(Protocol):
    """All files of a catalogue's galleries, on the disk or elsewhere."""

    def of(self, gallery: int, epoch: str) -> Folders:
        """Return those of a gallery under a key epoch."""

    def units_of(self, gallery: int, epoch: str) -> Files | None:
        """Return the unit files of a gallery under a key epoch, if there are any; makes nothing."""

    def delete_epoch(self, gallery: int, epoch: str, *, with_units: bool) -> bool:
        """Delete a key epoch's blocks, and the units too; return whether all of it is gone."""

    def delete_gallery(self, gallery: int) -> None:
        """Delete everything of a gallery; what is left is tried again later."""

    def galleries(self) -> frozenset[str]:
        """Return the numbers of galleries that have files, as they are written in names."""

    def stray_copies(self) -> Sequence[Path]:
        """Return local copies of what is not there, or not in this version, any more."""

    def settle(self) -> None:
        """Do what could not be done before."""

    def close(self) -> None:
        """End what runs."""


class LocalPlaces:
    """Files in the data folder, ``PART/GALLERY/EPOCH``; see :class:`Places`."""

    def __init__(self, data: Path) -> None:
        self._data = data
        with disk_errors():
            for part in PARTS:
                make_folder(data / part)
            self._sync()

    def _sync(self) -> None:
        """Make durable the folders that are there: who made them may have been killed before it."""
        sync_folder(self._data)
        for part in PARTS:
            sync_folder(self._data / part)
            for path in (self._data / part).iterdir():
                if path.is_dir():
                    sync_folder(path)

    def of(self, gallery: int, epoch: str) -> Folders:
        """See :class:`Places`."""
        units, blocks = (LocalFiles(self._folder(part, gallery, epoch)) for part in PARTS)
        return Folders(units, blocks)

    def units_of(self, gallery: int, epoch: str) -> Files | None:
        """See :class:`Places`."""
        folder = self._folder(UNITS, gallery, epoch)
        return LocalFiles(folder) if folder.is_dir() else None

    def delete_epoch(self, gallery: int, epoch: str, *, with_units: bool) -> bool:
        """See :class:`Places`."""
        parts = PARTS if with_units else (BLOCKS,)
        gone = [_delete(self._folder(part, gallery, epoch)) for part in parts]
        return all(gone)

    def delete_gallery(self, gallery: int) -> None:
        """See :class:`Places`."""
        for part in PARTS:
            _delete(self._data / part / str(gallery))

    def galleries(self) -> frozenset[str]:
        """See :class:`Places`."""
        with disk_errors():
            found = [path for part in PARTS for path in (self._data / part).iterdir()]
        return frozenset(path.name for path in found)

    def stray_copies(self) -> Sequence[Path]:
        """See :class:`Places`: files have no copies."""
        return ()

    def settle(self) -> None:
        """See :class:`Places`: nothing is left undone."""

    def close(self) -> None:
        """See :class:`Places`: nothing runs."""

    def _folder(self, part: str, gallery: int, epoch: str) -> Path:
        return self._data / part_name(part, gallery, epoch)


def _delete(folder: Path) -> bool:
    """Delete a folder, durably; return whether it is gone."""
    with disk_errors():
        if not folder.exists():
            return True
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            _log.warning("a folder is not deleted yet", folder=folder.name)
            return False
        sync_folder(folder.parent)
        return True
