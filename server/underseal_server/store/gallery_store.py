"""One gallery on disk: enrol, remove, read blocks, checkpoint.

Methods that change something must not run at the same time as any other method of the same
gallery; ``underseal_server.engine.hosting`` sees to that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from underseal_core.errors import Damaged, StorageFull
from underseal_core.gallery.block import Block
from underseal_core.gallery.disk import disk_errors, make_folder
from underseal_core.gallery.slots import SlotMap
from underseal_core.gallery.unit import Shape, usable_slots
from underseal_core.gallery.unit_files import StagedUnit, UnitFiles
from underseal_core.scheme.ciphertext import Ciphertext, Residues
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.snapshot import root_of_blocks
from underseal_server.store.digests import NOTHING_KNOWN, Digests
from underseal_server.store.folders import Folders
from underseal_server.store.history import Snapshots
from underseal_server.store.records import Gallery, NewUnit, Receipt, StoredUnit, View
from underseal_server.store.templates import Templates
from underseal_server.store.units import Units

MAX_UNSAVED: Final = 64
"""Changes of a block before it must be saved: bounds the work after a crash."""
MAX_UNSAVED_BLOCKS: Final = 4
"""Changed blocks in memory: bounds memory that the system cannot reclaim."""

_log: Final = structlog.get_logger("underseal.store")


class GalleryStore:
    """A gallery, brought up to date with the catalogue.

    Parameters
    ----------
    gallery
        Its row.
    catalogue
        Units, templates, what a view needs of every block, snapshots that were named.
    folders
        Its files.
    evaluator
        Of its key epoch.
    clock
        Returns the present as text.

    Raises
    ------
    Damaged
        A unit's file is missing or was changed.
    """

    def __init__(
        self,
        gallery: Gallery,
        catalogue: tuple[Units, Templates, Digests, Snapshots],
        folders: Folders,
        evaluator: Evaluator,
        clock: Callable[[], str],
    ) -> None:
        self.gallery = gallery
        self._units, self._templates, self._digests, self._snapshots = catalogue
        self._evaluator = evaluator
        self._folder = folders.blocks
        self._clock = clock
        self._view: View | None = None
        self._state = NOTHING_KNOWN
        self._viewing = threading.Lock()
        self._blocks: dict[int, Block] = {}
        with disk_errors():
            make_folder(folders.blocks)
        self.files = UnitFiles(folders.units, gallery.profile, gallery.dimension)
        degree = gallery.profile.degree
        self._slots = SlotMap(degree, usable_slots(degree, gallery.dimension))
        self._open()

    def _open(self) -> None:
        live = self._units.live(self.gallery)
        for unit in live:
            self._slots.take(unit.placement)
        for number in sorted({unit.placement.block for unit in live} | self._numbers_on_disk()):
            self._block(number)
        # What no checkpoint needs: broken uploads, units never committed, units folded out.
        needed = {unit.token for unit in live}
        needed.update(token for block in self._blocks.values() for token in block.retired)
        swept = self.files.sweep(needed)
        if swept:
            _log.info("swept", gallery=self.gallery.name, files=swept)
        self.checkpoint()

    def _numbers_on_disk(self) -> set[int]:
        return {int(path.stem) for path in self._folder.glob("*.tiles")}

    def _block(self, number: int) -> Block:
        """Return a block that agrees with the catalogue."""
        if number not in self._blocks:
            path = self._folder / f"{number}.tiles"
            try:
                block = Block(path, number, self._evaluator, self.files)
                present = self._units.by_tokens(self.gallery, sorted(block.folded))
                if len(present) != len(block.folded):
                    raise Damaged("a block file is damaged: it names unknown units")
                block.reconcile(self._units.live(self.gallery, number), present)
            except Damaged as error:
                if not path.exists():
                    raise
                # The units are the truth: make the block again from nothing.
                _log.warning("rebuilding", block=number, reason=error.public)
                path.rename(path.with_suffix(".damaged"))
                block = Block(path, number, self._evaluator, self.files)
                block.reconcile(self._units.live(self.gallery, number), ())
            self._blocks[number] = block
        return self._blocks[number]

    def view(self) -> View:
        """Return the present state; computed once per version, from the blocks that changed.

        Raises
        ------
        Damaged
            This version was named with another root before.
        """
        with self._viewing:
            if self._view is None:
                view = self._compute_view()
                self._snapshots.note(self.gallery, view, self._clock())
                self._view = view
            return self._view

    def _compute_view(self) -> View:
        self._state = self._digests.read(self.gallery, self._state)
        version, live = self._state.version, self._state.live()
        roots = {number: self._block(number).tiles_root() for number in live}
        digests = {number: entries.sha256 for number, entries in live.items()}
        root = root_of_blocks(self.gallery.name, version, digests, roots)
        return View(version, root, sum(entries.templates for entries in live.values()), roots)

    def tiles(self, number: int) -> Residues:
        """Return a block's tiles, as of :meth:`view`. Do not write to them."""
        return self._block(number).tiles

    def receipt(self, unit: NewUnit) -> Receipt | None:
        """Return the receipt if the unit was stored before; see :meth:`Units.receipt`."""
        return self._units.receipt(self.gallery, unit)

    def enrol(self, unit: NewUnit, staged: StagedUnit, columns: Residues | None) -> Receipt:
        """Store a unit; on return it survives anything.

        Parameters
        ----------
        unit
            What is in it.
        staged
            Its ciphertexts, complete and synced.
        columns
            The expansion, for a row.

        Raises
        ------
        Conflict
            Token or template id taken.
        InvalidInput
            A subject would have too many templates.
        StorageFull
            No room; nothing was changed.
        """
        repeated = self.receipt(unit)
        if repeated is not None:
            return repeated
        placement = self._slots.find(unit.shape.step(self.gallery.dimension), len(unit.templates))
        block = self._ready(placement.block)
        self.files.keep(staged, unit.token)
        try:
            stored = self._units.add(self.gallery, unit, placement, self._clock())
        except BaseException:
            self.files.remove(unit.token)
            raise
        self._view = None
        self._slots.take(placement)
        self._fold(block, lambda: block.fold_in(stored, columns))
        return Receipt(unit.token, placement, stored.added_version, repeated=False)

    def _ready(self, number: int) -> Block:
        """Return a block that may change: it has a checkpoint, not too far behind."""
        block = self._block(number)
        if block.unsaved >= MAX_UNSAVED or not (self._folder / f"{number}.tiles").exists():
            block.unsaved = max(block.unsaved, 1)
            block.checkpoint()
        others = [b for b in self._blocks.values() if b.unsaved and b is not block]
        for other in others[: max(0, len(others) + 1 - MAX_UNSAVED_BLOCKS)]:
            other.checkpoint()
        return block

    def _fold(self, block: Block, change: Callable[[], None]) -> None:
        """Apply a committed change; if that fails, the block is made again when next needed."""
        try:
            change()
        except Exception:  # noqa: BLE001  # the change is durable: answer, and log
            self._blocks.pop(block.number, None)
            _log.exception("fold failed", gallery=self.gallery.name, block=block.number)

    def leaving_row(self, unit: StoredUnit, template_ids: Sequence[bytes]) -> Ciphertext | None:
        """Return the row that removing these templates will fold out, to be expanded before.

        ``None`` for columns, and while other templates of the unit stay.
        """
        whole = len(set(template_ids)) == unit.placement.count and not unit.removed_version
        return next(self.files.ciphertexts(unit)) if whole and unit.shape is Shape.ROW else None

    def remove(
        self, unit: StoredUnit, template_ids: Sequence[bytes], columns: Residues | None
    ) -> int:
        """Remove templates of one unit.

        While others of the unit live, a removed template is dead: out of the snapshot, so that
        auditors ignore its slot, and without its label. With the last one the unit is
        subtracted, which leaves the block as if it had never been there, and its file deleted.

        Parameters
        ----------
        unit
            The unit.
        template_ids
            Some of its templates; those removed before are ignored.
        columns
            Its expansion if at hand.

        Returns
        -------
        int
            How many were removed.
        """
        block = self._ready(unit.placement.block)
        removed = self._units.remove(self.gallery, unit, template_ids)
        if not removed:
            return 0
        self._view = None
        (now,) = self._units.by_ids([unit.id])
        if now.removed_version:
            self._slots.free(unit.placement)
            self._fold(block, lambda: block.fold_out(unit, columns))
        return removed

    def checkpoint(self) -> None:
        """Save every changed block; one that has no room stays as it is and is tried again."""
        for block in list(self._blocks.values()):
            if block.unsaved:
                try:
                    block.checkpoint()
                except StorageFull as error:
                    _log.warning("not saved", block=block.number, reason=error.public)
        with self._viewing:
            self._write_digests()

    def _write_digests(self) -> None:
        """Write down what a view needs of the catalogue, so that the next start finds it."""
        try:
            state = self._digests.read(self.gallery, self._state)
            self._state = self._digests.write(self.gallery, state)
        except StorageFull as error:
            _log.warning("digests not saved", gallery=self.gallery.name, reason=error.public)

    def unsaved(self) -> bool:
        """Whether a checkpoint would do something."""
        if any(block.unsaved for block in list(self._blocks.values())):
            return True
        return not all(block.written for block in self._state.blocks.values())
