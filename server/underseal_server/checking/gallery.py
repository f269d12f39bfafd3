"""One gallery: units, blocks and what its snapshot root says, block after block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from underseal_core.errors import Damaged, StorageFull, UndersealError
from underseal_core.gallery.block import Block
from underseal_core.gallery.blocks import SUFFIX, checkpoint
from underseal_core.gallery.files import StoredFile
from underseal_core.gallery.slots import SlotMap
from underseal_core.gallery.unit import usable_slots
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.scheme.ciphertext import Residues
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.snapshot import root_of_blocks
from underseal_server.checking.findings import Finding, GalleryState
from underseal_server.checking.provenance import Provenance
from underseal_server.checking.recovery import recover
from underseal_server.checking.run import Run
from underseal_server.store.records import Gallery, StoredUnit

_COPY: Final = (
    "take an intact copy from another data folder or a guardian's replica: "
    "underseal-server check --repair --from FOLDER; or have it removed and enrolled again"
)
_MADE: Final = "--repair, or the next start, makes it again from its units"
_FORGED: Final = "restore the catalogue from a backup, or import the gallery's newest archive"


@dataclass(frozen=True, slots=True)
class Held:
    """A block's units: those in it and those that wait; ``lost``: whose files are damaged."""

    live: Sequence[StoredUnit]
    pending: Sequence[StoredUnit]
    lost: Sequence[StoredUnit]


class GalleryCheck:
    """Looks at everything of one gallery in the present key epoch. Memory holds two blocks."""

    def __init__(self, run: Run, provenance: Provenance, gallery: Gallery) -> None:
        self._run = run
        self._store = run.store
        self._provenance = provenance
        self._gallery = gallery
        self._place = f"gallery {gallery.name}"
        folders = run.store.folders(gallery)
        self._blocks = folders.blocks
        self._files = UnitFiles(folders.units, gallery.profile, gallery.dimension)
        self._evaluator: Evaluator | None = None
        self._roots: dict[int, str] = {}
        self._whole = True

    def look(self) -> None:
        """Check, and repair if that is wanted."""
        try:
            self._evaluator = self._run.keys.evaluator(self._gallery.spec.pin)
        except UndersealError as error:
            self._run.damage(self._place, f"no block can be computed: {error.public}", error.hint)
        self._check_labels()
        digests: dict[int, bytes] = {}
        waiting = self._store.units.pending(self._gallery)
        stored = self._provenance.numbers(self._gallery)
        for number in sorted({*stored, *self._on_disk()}):
            count = self._check_block(number, waiting)
            if count is not None:
                digests[number] = count
        for number in self._store.digests.wrong(self._gallery):
            self._repairable(
                f"the digest of block {number} is not that of its templates",
                partial(self._store.digests.reset, self._gallery, number),
            )
        for unit in self._store.templates.misplaced(self._gallery):
            self._run.damage(self._place, f"unit {unit} has templates outside its slots", _FORGED)
        self._check_root(digests)

    def _on_disk(self) -> set[int]:
        names = (name for name in self._blocks.sizes() if name.endswith(SUFFIX))
        stems = {name.removesuffix(SUFFIX) for name in names}
        return {int(stem) for stem in stems if stem.isdigit()}

    def _check_labels(self) -> None:
        count = self._provenance.kept_labels(self._gallery)
        if count:
            self._run.leftover(
                self._place,
                f"{count} removed templates still have their sealed label",
                lambda: self._provenance.forget_labels(self._gallery),
            )

    def _check_block(self, number: int, waiting: Sequence[StoredUnit]) -> bytes | None:
        """Check a block with its units; return its entries digest if it holds live templates."""
        live = self._store.units.live(self._gallery, number)
        pending = [unit for unit in waiting if unit.placement.block == number]
        self._check_slots(number, (*live, *pending))
        lost = [unit for unit in (*live, *pending) if not self._sound(unit)]
        for text in self._provenance.problems(self._gallery, number):
            self._run.damage(self._place, text, _FORGED)
        lost = self._restored(number, Held(live, pending, lost))
        entries = self._entries(number)
        root = self._tiles_root(number, Held(live, pending, lost))
        self._run.looked()
        if not entries:
            return None
        if root is None:
            self._whole = False
        else:
            self._roots[number] = root
        return entries

    def _entries(self, number: int) -> bytes | None:
        try:
            entries = self._provenance.entries(self._gallery, number)
        except Damaged as error:
            self._run.damage(self._place, f"block {number}: {error.public}", _FORGED)
            self._whole = False
            return None
        self._run.report.templates += entries.templates
        return entries.sha256 if entries.templates else None

    def _check_slots(self, number: int, units: Sequence[StoredUnit]) -> None:
        degree = self._gallery.profile.degree
        slots = SlotMap(degree, usable_slots(degree, self._gallery.dimension))
        for unit in units:
            try:
                slots.take(unit.placement, unit.erased)
            except Damaged:
                text = f"unit {unit.id} overlaps another one in block {number}, or leaves it"
                self._run.damage(self._place, text, _FORGED)

    def _sound(self, unit: StoredUnit) -> bool:
        self._run.report.units += 1
        self._run.looked()
        try:
            return self._files.sha256(unit) == unit.sha256
        except Damaged:
            return False

    def _restored(self, number: int, held: Held) -> list[StoredUnit]:
        """Name units whose files are damaged, put copies in their place, return the others."""
        left, findings = [], []
        for unit in held.lost:
            what = "was changed" if self._files.exists(unit.name) else "is missing"
            text = f"the file of unit {unit.id} ({unit.name.hex()}.unit) {what}"
            finding = self._run.damage(self._place, text, _COPY)
            if self._run.options.repair:
                finding.repaired = self._from_elsewhere(unit)
            if not finding.repaired:
                left.append(unit)
                findings.append(finding)
        if self._run.options.repair and len(left) == 1 and self._from_block(number, held, left[0]):
            findings[0].repaired = True
            return []
        return left

    def _from_elsewhere(self, unit: StoredUnit) -> bool:
        try:
            return self._run.copies.restore(unit, self._files, self._gallery.profile)
        except (Damaged, StorageFull):
            return False

    def _from_block(self, number: int, held: Held, lost: StoredUnit) -> bool:
        """Take a unit back out of its block, if that is intact."""
        file = self._file(number)
        if self._evaluator is None or lost not in held.live or not file.exists():
            return False
        try:
            block = Block(file, number, self._evaluator, self._files)
            if block.folded != {unit.name for unit in held.live}:
                return False
            others = [unit for unit in held.live if unit is not lost]
            return recover(lost, others, block, self._evaluator, self._files)
        except (Damaged, StorageFull):
            return False

    def _file(self, number: int) -> StoredFile:
        return checkpoint(self._blocks, number)

    def _tiles_root(self, number: int, held: Held) -> str | None:
        """Return the root over a block's tiles as they should be; ``None``: they cannot be had."""
        evaluator, file = self._evaluator, self._file(number)
        if evaluator is None:
            return None
        self._run.report.blocks += file.exists()
        lost = any(unit in held.live for unit in held.lost)
        try:
            if not file.exists():
                return self._missing(number, held) if held.live and not lost else None
            block = Block(file, number, evaluator, self._files)
            return self._current(block, held, lost=lost)
        except (Damaged, StorageFull) as error:
            text = f"block file {file.name}: {error.public}"
            finding = self._run.damage(self._place, text, _COPY if lost else _MADE)
            return None if lost else self._made(number, held, finding)

    def _current(self, block: Block, held: Held, *, lost: bool) -> str | None:
        """Return an intact checkpoint's root, after what it lacks is folded in and out."""
        present = self._store.units.by_names(self._gallery, sorted(block.folded))
        if len(present) != len(block.folded):
            raise Damaged("it names unknown units")
        tiles = block.tiles  # reads and checks them
        if self._run.options.deep and not lost:
            self._check_sum(block.number, tiles, present)
        if block.folded == {unit.name for unit in held.live}:
            return block.tiles_root()
        if lost:
            return None
        block.reconcile(held.live, present)
        root = block.tiles_root()
        self._run.leftover(
            self._place,
            f"block file {self._file(block.number).name} is behind the catalogue",
            block.checkpoint,
            _MADE,
        )
        block.close()
        return root

    def _check_sum(self, number: int, tiles: Residues, present: Sequence[StoredUnit]) -> None:
        evaluator = self._evaluator
        assert evaluator is not None  # noqa: S101  # _tiles_root
        fresh = Block(None, number, evaluator, self._files)
        for unit in present:
            fresh.fold_in(unit)
        if not np.array_equal(fresh.tiles, tiles):
            raise Damaged("it is not the sum of its units")

    def _missing(self, number: int, held: Held) -> str | None:
        root = self._made(number, held, None)
        if root is not None and not self._run.options.repair:
            text = f"block file {self._file(number).name} is missing"
            self._run.leftover(self._place, text, None, _MADE)
        return root

    def _made(self, number: int, held: Held, finding: Finding | None) -> str | None:
        """Add up a block from nothing but its units, and write it if that is wanted."""
        evaluator, file = self._evaluator, self._file(number)
        assert evaluator is not None  # noqa: S101  # _tiles_root
        repair = self._run.options.repair
        try:
            if repair:
                file.delete()
            block = Block(file if repair else None, number, evaluator, self._files)
            block.reconcile(held.live, ())
            block.checkpoint()
        except (Damaged, StorageFull):
            return None
        if finding is None and repair:
            text = f"block file {file.name} is missing"
            self._run.leftover(self._place, text, lambda: None)
        elif finding is not None:
            finding.repaired = repair
        return block.tiles_root()

    def _repairable(self, text: str, repair: Callable[[], None]) -> None:
        finding = self._run.damage(self._place, text, "--repair")
        if self._run.options.repair:
            repair()
            finding.repaired = True

    def _check_root(self, digests: dict[int, bytes]) -> None:
        """Compute the snapshot root, and compare it with what was named of this version."""
        gallery, root = self._gallery, ""
        if self._whole:
            root = root_of_blocks(gallery.name, gallery.version, digests, self._roots)
            named = self._store.snapshots.root(gallery, gallery.version)
            if named is not None and named != root:
                text = f"version {gallery.version} was named with another snapshot root"
                self._run.damage(self._place, text, _FORGED)
        templates = self._provenance.count(gallery)
        self._run.report.galleries.append(
            GalleryState(gallery.name, gallery.version, root, templates)
        )
