"""An independent look at a data folder: everything in it must fit together.

Repairs nothing, and needs the server stopped. What is checked: the database itself, that no two
units share a slot, that every template is where its unit is, every unit's file against its hash,
every checkpoint against its own hash and, with ``deep``, against its units added up anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from underseal_core.errors import Damaged, InvalidInput, UndersealError
from underseal_core.gallery.block import Block
from underseal_core.gallery.block_file import BlockHeader, read_header, read_tiles
from underseal_core.gallery.blocks import SUFFIX
from underseal_core.gallery.files import StoredFile
from underseal_core.gallery.slots import SlotMap
from underseal_core.gallery.unit import usable_slots
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.scheme.evaluation import tiles_shape
from underseal_server.engine.keys import KeyEpochs
from underseal_server.store.places import IDENTITY, ObjectStorage
from underseal_server.store.records import Gallery, StoredUnit
from underseal_server.store.store import BUNDLES, Store


@dataclass(slots=True)
class Report:
    """What was looked at and what is wrong. Problems name galleries, blocks and units."""

    galleries: int = 0
    units: int = 0
    templates: int = 0
    blocks: int = 0
    problems: list[str] = field(default_factory=list)


class Checker:
    """One run over a data folder.

    Parameters
    ----------
    folder
        The data folder; it must exist.
    deep
        Add up every block anew: needs the bundles and takes an expansion per row.
    threads
        For that.
    looked
        Called after every unit and block, for progress.
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
        catalogue: str = "",
        objects: ObjectStorage | None = None,
    ) -> None:
        if not (folder / IDENTITY).is_file():
            raise InvalidInput(f"{folder} is not a server's data folder")
        self._store = Store(folder, catalogue=catalogue, objects=objects)
        self._keys = KeyEpochs(folder / BUNDLES, threads)
        self._deep = deep
        self._looked = looked
        self.report = Report()

    def run(self) -> Report:
        """Look at everything and close the folder."""
        try:
            self.report.problems += self._store.database_problems()
            after = ""
            while page := self._store.galleries.page(after, 100):
                for gallery in page:
                    self._check_gallery(gallery)
                after = page[-1].name
        finally:
            self._keys.close()
            self._store.close()
        return self.report

    def _check_gallery(self, gallery: Gallery) -> None:
        self.report.galleries += 1
        live = self._store.units.live(gallery)
        stored = (*live, *self._store.units.pending(gallery))
        folders = self._store.folders(gallery)
        files = UnitFiles(folders.units, gallery.profile, gallery.dimension)
        self.report.problems += _slot_problems(gallery, stored)
        known = self._store.digests.read(gallery).live()
        self.report.templates += sum(entries.templates for entries in known.values())
        for number in self._store.digests.wrong(gallery):
            self._problem(gallery, f"the digest of block {number} is not that of its templates")
        for number in self._store.templates.misplaced(gallery):
            self._problem(gallery, f"unit {number} has templates outside its slots")
        for unit in stored:
            self._check_unit(gallery, unit, files)
        for name in sorted(folders.blocks.sizes()):
            if name.endswith(SUFFIX):
                self._check_block(gallery, StoredFile(folders.blocks, name), files)

    def _check_unit(self, gallery: Gallery, unit: StoredUnit, files: UnitFiles) -> None:
        self.report.units += 1
        self._looked()
        try:
            digest = files.sha256(unit.name)
        except Damaged:
            self._problem(gallery, f"the file of unit {unit.id} is missing")
            return
        if digest != unit.sha256:
            self._problem(gallery, f"the file of unit {unit.id} was changed")

    def _check_block(self, gallery: Gallery, file: StoredFile, files: UnitFiles) -> None:
        self.report.blocks += 1
        self._looked()
        try:
            header, offset = read_header(file)
            shape = tiles_shape(gallery.profile, gallery.dimension)
            tiles = read_tiles(file, header, offset, shape)
            if f"{header.block}{SUFFIX}" != file.name:
                raise Damaged("it is of another block")
            names = [bytes.fromhex(name) for name in header.units]
            units = self._store.units.by_names(gallery, names)
            if len(units) != len(header.units):
                raise Damaged("it names unknown units")
            if self._deep:
                self._check_sum(gallery, header, units, files, tiles)
        except UndersealError as error:
            self._problem(gallery, f"block file {file.name}: {error.public}")

    def _check_sum(
        self,
        gallery: Gallery,
        header: BlockHeader,
        units: Sequence[StoredUnit],
        files: UnitFiles,
        tiles: object,
    ) -> None:
        evaluator = self._keys.evaluator(gallery.spec.pin)
        block = Block(None, header.block, evaluator, files)
        for unit in units:
            block.fold_in(unit)
        if not np.array_equal(block.tiles, np.asarray(tiles)):
            raise Damaged("it is not the sum of its units")

    def _problem(self, gallery: Gallery, text: str) -> None:
        self.report.problems.append(f"gallery {gallery.name}: {text}")


def _slot_problems(gallery: Gallery, stored: Sequence[StoredUnit]) -> Iterator[str]:
    degree = gallery.profile.degree
    slots = SlotMap(degree, usable_slots(degree, gallery.dimension))
    for unit in stored:
        try:
            slots.take(unit.placement, unit.erased)
        except Damaged:
            yield f"gallery {gallery.name}: unit {unit.id} overlaps another one or its block"
