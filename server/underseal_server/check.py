"""An independent look at a data folder: everything in it must fit together.

Needs the server stopped. What is looked at: the database itself, every unit's file against its
hash, every template against its enroller's receipt, every checkpoint against its own hash, its
units and, with ``deep``, their sum added up anew, the snapshot root against what was named of this
version, every bundle and switching key, and whether any file is there that nothing accounts for.
With object storage that goes for every object, too, which is read itself and not a local copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from underseal_core.errors import Busy, InvalidInput, UndersealError
from underseal_server.checking.copies import Copies
from underseal_server.checking.epochs import Epochs
from underseal_server.checking.files import FilesCheck
from underseal_server.checking.findings import Report, Sources
from underseal_server.checking.gallery import GalleryCheck
from underseal_server.checking.objects import ObjectsCheck
from underseal_server.checking.pages import free_pages_in_use, rewrite, truncate_log
from underseal_server.checking.provenance import Provenance
from underseal_server.checking.run import Options, Run
from underseal_server.engine.keys import KeyEpochs, SwitchingKeys
from underseal_server.store.places import IDENTITY, ObjectStorage
from underseal_server.store.store import BUNDLES, CATALOGUE, SWITCHING_KEYS, Store
from underseal_server.store.transfer import is_unfinished


class Checker:
    """One run over a data folder.

    Parameters
    ----------
    folder
        The data folder; it must exist.
    looked
        Called after every unit and block, for progress.
    deep
        Add up every block anew: needs the bundles and takes an expansion per row.
    threads
        For adding up.
    repair
        Repair what can be.
    keep
        How long units of key epochs that a gallery has left are kept.
    copies
        Folders with intact copies of units, for repairs.
    catalogue, objects
        As :class:`Store` takes them.

    Raises
    ------
    InvalidInput
        There is no data folder, or a server is using it.
    Damaged
        The catalogue cannot be read at all.
    """

    def __init__(
        self,
        folder: Path,
        looked: Callable[[], None],
        *,
        deep: bool,
        threads: int,
        repair: bool = False,
        keep: timedelta = timedelta(days=1),
        copies: Sequence[Path] = (),
        catalogue: str = "",
        objects: ObjectStorage | None = None,
    ) -> None:
        if not (folder / IDENTITY).is_file():
            raise InvalidInput(f"{folder} is not a server's data folder")
        elsewhere = Copies(copies)
        if objects is not None:
            objects = replace(objects, copies=False)  # what is there counts, not what was
        store = Store(folder, catalogue=catalogue, objects=objects, tidy=False)
        keys = KeyEpochs(folder / BUNDLES, threads)
        switching = SwitchingKeys(folder / SWITCHING_KEYS, keys)
        options = Options(deep=deep, repair=repair, keep=keep)
        sources = Sources(objects=objects is not None, postgresql=bool(catalogue))
        report = Report(sources=sources)
        self._run = Run(store, keys, switching, elsewhere, options, looked, report)

    def run(self) -> Report:
        """Look at everything and close the folder."""
        run = self._run
        try:
            for text in run.store.database_problems():
                run.damage("catalogue", text, "restore it from a backup, or import archives")
            provenance = Provenance(run.store.database)
            files = FilesCheck(run, provenance)
            objects = None if run.store.objects is None else ObjectsCheck(run, run.store.objects)
            after = ""
            while page := run.store.galleries.page(after, 100):
                for gallery in page:
                    if is_unfinished(gallery):
                        text = "it is of an import that was never finished"
                        run.leftover(gallery.name, text, run.store.transfer.forget_unfinished)
                        continue
                    GalleryCheck(run, provenance, gallery).look()
                    epochs = Epochs.of(run, gallery)
                    files.look_at(gallery, epochs)
                    if objects is not None:
                        objects.add(gallery, epochs)
                after = page[-1].name
            files.look()
            if objects is not None:
                objects.look()
            self._check_pages()
        finally:
            run.keys.close()
            run.store.close()
        return run.report

    def _check_pages(self) -> None:
        path = self._run.store.folder / CATALOGUE
        if not path.is_file():
            self._check_rows()
            return
        try:
            if truncate_log(path):
                text = "its log of changes is in use, and may hold what was removed"
                self._run.leftover(CATALOGUE, text, None, "close whatever reads it")
            used = free_pages_in_use(path)
        except UndersealError as error:
            self._run.damage(CATALOGUE, error.public, "restore it from a backup")
            return
        if used:
            text = f"{used} of its free pages hold what was removed"
            self._run.leftover(CATALOGUE, text, partial(rewrite, path))

    def _check_rows(self) -> None:
        """Have PostgreSQL drop old versions of rows, and say so if it cannot."""
        try:
            self._run.store.database.purge()
        except Busy as error:
            self._run.leftover("catalogue", error.public, None, error.hint)
