"""A gallery on its way to a new key epoch: new unit files and blocks beside the old ones.

    units/<gallery>/<new epoch>/     re-encrypted units; one counts once its row is committed
    blocks/<gallery>/<new epoch>/    their sums

Every step leaves a state from which another process goes on: the same switching key gives the same
files, bit for bit. Nothing here changes what the gallery is until ``Rotations.finish``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from underseal_core.errors import Damaged
from underseal_core.gallery.block import Block
from underseal_core.gallery.disk import disk_errors, make_folder
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.reencryption import Reencryptor
from underseal_server.store.folders import Folders
from underseal_server.store.records import Gallery, StoredUnit
from underseal_server.store.rotations import Move, Rotations
from underseal_server.store.units import Units

MAX_UNSAVED = 64
"""Changes of a block before it is saved: bounds the work after a crash."""


@dataclass(frozen=True, slots=True)
class Successor:
    """The new key epoch: what re-encrypts, and what computes there."""

    move: Move
    reencryptor: Reencryptor
    evaluator: Evaluator


class Reencryption:
    """The new epoch's files of one gallery, brought up to what was done before.

    Not thread-safe; runs beside searches and changes of the gallery, until :meth:`settle`.

    Parameters
    ----------
    gallery
        Its row, of the old epoch.
    successor
        The new epoch.
    catalogue
        Units and rotations.
    old, new
        Files of the old epoch, folders of the new one.

    Raises
    ------
    StorageFull, Damaged
        The new files cannot be written or read.
    """

    def __init__(
        self,
        gallery: Gallery,
        successor: Successor,
        catalogue: tuple[Units, Rotations],
        old: UnitFiles,
        new: Folders,
    ) -> None:
        self._gallery = gallery
        self._successor = successor
        self._units, self._rotations = catalogue
        self._old = old
        self._folder = new.blocks
        with disk_errors():
            make_folder(new.blocks)
        self._new = UnitFiles(new.units, gallery.profile, gallery.dimension)
        self._blocks: dict[int, Block] = {}

    def waiting(self) -> list[StoredUnit]:
        """Return the live units that are left to do."""
        return list(self._rotations.waiting(self._gallery, self._successor.move))

    def convert(self, unit: StoredUnit) -> None:
        """Re-encrypt one unit and fold it into its new block.

        Raises
        ------
        StorageFull
            No room; the old epoch goes on.
        Damaged
            The old unit's file is, and the unit is still live.
        """
        block = self._block(unit.placement.block)
        try:
            sha256 = self._write(unit)
        except Damaged:
            (now,) = self._units.by_ids([unit.id])
            if now.removed_version:
                return  # its file went with it
            raise
        self._rotations.add(unit, self._successor.move, sha256)
        block.fold_in(replace(unit, sha256=sha256))
        if block.unsaved >= MAX_UNSAVED:
            block.checkpoint()

    def _write(self, unit: StoredUnit) -> bytes:
        with self._new.stage(unit.shape) as staged:
            for ciphertext in self._successor.reencryptor.unit(self._old.ciphertexts(unit)):
                staged.write(ciphertext.to_bytes())
            staged.sync()
            self._new.keep(staged, unit.name)
            return staged.sha256

    def settle(self) -> None:
        """Do what is left, fold out what was removed meanwhile, and save every block.

        Nothing may change the gallery from here until it is of the new epoch.
        """
        for unit in self.waiting():
            self.convert(unit)
        live = self._rotations.live(self._gallery, self._successor.move)
        numbers = {unit.placement.block for unit in live}
        numbers |= {int(path.stem) for path in self._folder.glob("*.tiles")}
        for number in sorted(numbers):
            block = self._block(number)
            present = self._rotations.units(self._gallery, self._successor.move, block.folded)
            if len(present) != len(block.folded):
                raise Damaged("a block file names units that are not re-encrypted")
            block.reconcile([u for u in live if u.placement.block == number], present)
            block.checkpoint()
        self._blocks.clear()

    def _block(self, number: int) -> Block:
        """Return a block that holds what the catalogue says is re-encrypted and live."""
        if number not in self._blocks:
            self._blocks[number] = self._open(number)
        return self._blocks[number]

    def _open(self, number: int) -> Block:
        path = self._folder / f"{number}.tiles"
        evaluator, move = self._successor.evaluator, self._successor.move
        live = self._rotations.live(self._gallery, move)
        wanted = [unit for unit in live if unit.placement.block == number]
        try:
            block = Block(path, number, evaluator, self._new)
            present = self._rotations.units(self._gallery, move, block.folded)
            if len(present) != len(block.folded):
                raise Damaged("a block file names units that are not re-encrypted")
            block.reconcile(wanted, present)
        except Damaged:
            if not path.exists():
                raise
            with disk_errors():
                path.unlink()  # the units are the truth: make it again from nothing
            block = Block(path, number, evaluator, self._new)
            block.reconcile(wanted, ())
        return block
