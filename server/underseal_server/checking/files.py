"""Every file of a data folder is accounted for: what none of these rules names is a leftover.

Files of the present key epoch are read by ``gallery``; here it is about what else is there. What is
in object storage is looked at by ``objects``.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from underseal_core.bundle import load_bundle
from underseal_core.errors import Busy, UndersealError
from underseal_core.gallery.files import Files, LocalFiles
from underseal_core.gallery.unit_files import file_name
from underseal_server.checking.epochs import (
    DELETED,
    NAMELESS,
    REMOVED,
    UNIT,
    Epochs,
    live_files,
    unit_names,
)
from underseal_server.checking.provenance import Provenance
from underseal_server.checking.run import Run
from underseal_server.engine.keys import SUFFIX, SWITCHING_SUFFIX
from underseal_server.store.folders import BLOCKS, PARTS, UNITS
from underseal_server.store.places import CACHE, IDENTITY
from underseal_server.store.records import Gallery
from underseal_server.store.store import BUNDLES, CATALOGUE, SWITCHING_KEYS

_OWN: Final = frozenset(
    {
        CATALOGUE,
        f"{CATALOGUE}-wal",
        f"{CATALOGUE}-shm",
        IDENTITY,
        "lock",
        BUNDLES,
        SWITCHING_KEYS,
        CACHE,
        *PARTS,
    }
)
_TILES: Final = re.compile(r"[0-9]+\.tiles")
_BEGUN: Final = re.compile(r"\.[0-9a-f]+\.(usb|usk|jsonl)\.\w+")
"""A file that ``replace_file`` had not put in its place yet."""
_UNFINISHED: Final = frozenset({".part", ".damaged"})
_STRANGE: Final = "it is none of the server's: look at it, and move it away"
_CHUNK: Final = 500


class FilesCheck:
    """Goes through all folders; holds the names of a few hundred files at a time."""

    def __init__(self, run: Run, provenance: Provenance) -> None:
        self._run = run
        self._store = run.store
        self._folder = run.store.folder
        self._provenance = provenance

    def look(self) -> None:
        """Check the folders that belong to no gallery, and what is in none of the known ones."""
        for entry in sorted(self._folder.iterdir()):
            if entry.name not in _OWN:
                self._strange(entry)
            elif entry.is_file() and not entry.name.endswith(("-wal", "-shm")):
                self._run.report.files += 1
        self._check_bundles()
        self._check_switching_keys()
        for path in self._store.stray_copies():
            text = "it is a copy of what is in the object storage no more"
            self._strange(path, text, path.unlink)
        known = {str(number) for number in self._store.galleries.ids()}
        for part in PARTS:
            folder = self._folder / part
            entries = sorted(folder.iterdir()) if folder.is_dir() else []  # not with objects
            for entry in entries:
                if entry.name not in known:
                    mine = entry.is_dir() and entry.name.isdigit()
                    text = DELETED if mine else NAMELESS
                    self._strange(entry, text, partial(shutil.rmtree, entry) if mine else None)

    def _strange(
        self, path: Path, text: str = NAMELESS, clear: Callable[[], object] | None = None
    ) -> None:
        place = str(path.relative_to(self._folder))
        self._run.leftover(place, text, clear, "" if clear else _STRANGE)

    def _check_bundles(self) -> None:
        for path in sorted((self._folder / BUNDLES).iterdir()):
            self._run.report.files += 1
            if path.suffix != SUFFIX:
                self._uncalled_for(path)
                continue
            try:
                load_bundle(path, path.stem)
            except UndersealError as error:
                hint = "remove the file and add it again: underseal-server bundle add FILE"
                self._run.damage(f"{BUNDLES}/{path.name}", error.public, hint)

    def _uncalled_for(self, path: Path) -> None:
        """Report what is no bundle and no switching key: broken off, where its name says so."""
        if _BEGUN.fullmatch(path.name):
            self._strange(path, "it was never finished", path.unlink)
        else:
            self._strange(path)

    def _check_switching_keys(self) -> None:
        for path in sorted((self._folder / SWITCHING_KEYS).iterdir()):
            self._run.report.files += 1
            if path.suffix not in (SWITCHING_SUFFIX, ".jsonl"):
                self._uncalled_for(path)
                continue
            try:
                self._run.switching.successor(path.stem)
            except UndersealError as error:
                hint = "remove the file and add it again: underseal-server epoch add FILE"
                self._run.damage(f"{SWITCHING_KEYS}/{path.name}", error.public, hint)

    def look_at(self, gallery: Gallery, epochs: Epochs) -> None:
        """Check what is in a gallery's folders."""
        folders = self._store.folders(gallery)
        for part, files in ((UNITS, folders.units), (BLOCKS, folders.blocks)):
            self._present(gallery, files, part)
            for entry in sorted((self._folder / part / str(gallery.id)).iterdir()):
                why = epochs.stray(part, entry.name) if entry.is_dir() else NAMELESS
                if why:
                    clear = partial(shutil.rmtree, entry) if entry.is_dir() else None
                    self._strange(entry, why, clear)
                elif entry.name in epochs.kept:
                    self._kept(gallery, entry)
                elif entry.name in epochs.coming:
                    self._run.report.files += sum(1 for _ in os.scandir(entry))

    def _present(self, gallery: Gallery, files: Files, part: str) -> None:
        pattern = UNIT if part == UNITS else _TILES
        for names in _chunks(files):
            self._run.report.files += len(names)
            found = self._store.units.by_names(gallery, unit_names(names))
            live = {file_name(u.name) for u in found if u.is_now and not u.removed_version}
            gone = {file_name(unit.name) for unit in found} - live
            for name in names:
                path = files.folder / name
                clear = partial(_delete, files, name)
                if path.suffix in _UNFINISHED:
                    self._strange(path, "it was never finished", clear)
                elif not pattern.fullmatch(name):
                    self._strange(path)
                elif part == UNITS and name not in live:
                    self._strange(path, REMOVED if name in gone else NAMELESS, clear)

    def _kept(self, gallery: Gallery, folder: Path) -> None:
        """Check units of a key epoch that was left: they are kept of live units only."""
        for names in _chunks(LocalFiles(folder)):
            self._run.report.files += len(names)
            live = live_files(self._run, gallery, names)
            for name in names:
                path = folder / name
                if not UNIT.fullmatch(name):
                    self._strange(path)
                elif name not in live:
                    self._strange(path, REMOVED, path.unlink)


def _delete(files: Files, name: str) -> None:
    files.delete([name])
    if files.exists(name):
        raise Busy("the object storage has not deleted it")


def _chunks(files: Files) -> Iterator[list[str]]:
    """Yield the names of all files, some at a time; on a disk no more are in memory."""
    if not isinstance(files, LocalFiles):
        yield sorted(files.sizes())
        return
    with os.scandir(files.folder) as entries:
        names = (entry.name for entry in entries)
        while some := list(islice(names, _CHUNK)):
            yield some
