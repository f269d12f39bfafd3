"""PENDING units, added up beside the blocks that they will go into."""

from __future__ import annotations

import threading

from underseal_core.gallery.block import Block
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.scheme.ciphertext import Residues
from underseal_core.scheme.evaluation import Evaluator
from underseal_server.store.records import StoredUnit


class Folding:
    """Sums of PENDING units, one for each block, that searches do not see yet.

    Adding up is what takes long; to show the result, each block has to take one addition. Exact in
    any order: ``GalleryStore.activate``. Thread-safe.
    """

    def __init__(self, evaluator: Evaluator, files: UnitFiles) -> None:
        self._evaluator = evaluator
        self._files = files
        self._adding = threading.Lock()
        self.units: list[StoredUnit] = []
        self.sums: dict[int, Block] = {}

    def add(self, unit: StoredUnit, columns: Residues | None) -> None:
        """Add a unit.

        Parameters
        ----------
        unit
            A unit that is PENDING.
        columns
            The expansion of a row, if it is at hand.

        Raises
        ------
        Damaged
            The unit's file is. Discard the sums: they may hold a part of it.
        """
        number = unit.placement.block
        with self._adding:
            if number not in self.sums:
                self.sums[number] = Block(None, number, self._evaluator, self._files)
            self.sums[number].fold_in(unit, columns)
            self.units.append(unit)
