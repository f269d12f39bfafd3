"""PENDING units, added up beside the blocks that they will go into."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from underseal_core.gallery.block import Block
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.scheme.ciphertext import Ciphertext
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

    def add(self, unit: StoredUnit) -> None:
        """Add a unit that is PENDING.

        Raises
        ------
        Damaged
            The unit's file is. Discard the sums: they may hold a part of it.
        """
        with self._adding:
            self._sum(unit.placement.block).fold_in(unit)
            self.units.append(unit)

    def row(self, unit: StoredUnit) -> Ciphertext:
        """Read the ciphertext of a unit of one row.

        Raises
        ------
        Damaged
            The unit's file is.
        """
        (row,) = self._files.ciphertexts(unit)
        return row

    def add_rows(self, units: Sequence[StoredUnit], rows: Sequence[Ciphertext]) -> None:
        """Add PENDING units of one row each that go into the same block, given their rows."""
        with self._adding:
            self._sum(units[0].placement.block).fold_rows_in(units, rows)
            self.units.extend(units)

    def _sum(self, number: int) -> Block:
        if number not in self.sums:
            self.sums[number] = Block(None, number, self._evaluator, self._files)
        return self.sums[number]
