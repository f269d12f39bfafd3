"""A gallery on its way to a new key epoch: new unit files and blocks beside the old ones.

    units/<gallery>/<new epoch>/     re-encrypted units; one counts once its row is committed
    blocks/<gallery>/<new epoch>/    their sums

Every step leaves a state from which another process goes on: the same switching key gives the same
files, bit for bit. Nothing here changes what the gallery is until ``Rotations.finish``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from underseal_core.errors import Damaged
from underseal_core.gallery.blocks import Blocks
from underseal_core.gallery.memory import BlockMemory
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.reencryption import Reencryptor
from underseal_server.store.folders import Folders
from underseal_server.store.records import Gallery, StoredUnit
from underseal_server.store.rotations import Move, Rotations
from underseal_server.store.units import Units


@dataclass(frozen=True, slots=True)
class Successor:
    """The new key epoch: what re-encrypts, and what computes there."""

    move: Move
    reencryptor: Reencryptor
    evaluator: Evaluator


@dataclass(frozen=True, slots=True)
class Reencrypted:
    """The units that are re-encrypted, as they are under the new key; see ``UnitList``."""

    gallery: Gallery
    move: Move
    rotations: Rotations

    def live(self, block: int) -> list[StoredUnit]:
        """Return those of a block that are live."""
        return self.rotations.live(self.gallery, self.move, block)

    def named(self, names: Collection[bytes]) -> list[StoredUnit]:
        """Return those of these names."""
        return self.rotations.units(self.gallery, self.move, names)


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
    memory
        Bounds the blocks in memory.

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
        memory: BlockMemory,
    ) -> None:
        self._gallery = gallery
        self._successor = successor
        self._units, self._rotations = catalogue
        self._old = old
        self._new = UnitFiles(new.units, gallery.profile, gallery.dimension)
        moved = Reencrypted(gallery, successor.move, self._rotations)
        self._blocks = Blocks(new.blocks, successor.evaluator, self._new, moved, memory)

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
        number = unit.placement.block
        block = self._blocks.ready(number)
        try:
            sha256 = self._write(unit)
        except Damaged:
            (now,) = self._units.by_ids([unit.id])
            if now.removed_version:
                return  # its file went with it
            raise
        self._rotations.add(unit, self._successor.move, sha256)
        block.fold_in(replace(unit, sha256=sha256))

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
        numbers = {unit.placement.block for unit in self._units.live(self._gallery)}
        for number in sorted(numbers | self._blocks.on_disk()):
            self._blocks.renew(number).checkpoint()

    def close(self) -> None:
        """Take the new blocks out of memory."""
        self._blocks.close()
