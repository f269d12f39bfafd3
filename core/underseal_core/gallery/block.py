"""One block in memory: tiles, the units folded into them, and its checkpoint on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from underseal_core.errors import Damaged
from underseal_core.gallery.block_file import (
    BlockHeader,
    map_tiles,
    read_header,
    write_block,
)
from underseal_core.gallery.tiles import tiles_root
from underseal_core.gallery.unit import Shape, Unit
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.scheme.ciphertext import Residues
from underseal_core.scheme.evaluation import Evaluator, tiles_shape

_log: Final = structlog.get_logger("underseal.gallery")


class Block:
    """A block, loaded from its checkpoint or empty.

    Parameters
    ----------
    path
        The checkpoint; need not exist. ``None``: the block is in memory only.
    number
        Number of the block in its gallery.
    evaluator
        Of the gallery's key epoch.
    files
        Of the gallery's units.

    Raises
    ------
    Damaged
        The checkpoint exists but is not one of this block, or its tiles were changed.
    """

    def __init__(
        self, path: Path | None, number: int, evaluator: Evaluator, files: UnitFiles
    ) -> None:
        self._path = path
        self._evaluator = evaluator
        self._files = files
        self.number = number
        self.folded: set[bytes] = set()
        """Names of the units that the tiles are the sum of."""
        self.unsaved = 0
        """Changes since the checkpoint."""
        self.retired: list[bytes] = []
        """Names of units folded out since the checkpoint: it still needs their files."""
        self._root = ""
        self._shape = tiles_shape(evaluator.profile, evaluator.dimension)
        self.tiles: Residues = self._load(path) if path and path.exists() else self._empty()

    def _empty(self) -> Residues:
        return np.zeros(self._shape, dtype=np.uint32)

    def _load(self, path: Path) -> Residues:
        header, offset = read_header(path)
        profile, dimension = self._evaluator.profile.name, self._evaluator.dimension
        if (header.profile, header.dimension, header.block) != (profile, dimension, self.number):
            raise Damaged("a block file is damaged: it is of another block")
        tiles = map_tiles(path, offset, self._shape)
        if tiles_root(tiles) != header.tiles_root:
            raise Damaged("a block file is damaged: its checksum differs")
        self._root = header.tiles_root
        self.folded = {bytes.fromhex(name) for name in header.units}
        return tiles

    def tiles_root(self) -> str:
        """Return the hex root over the tiles; computed once after a change."""
        if not self._root:
            self._root = tiles_root(self.tiles)
        return self._root

    def fold_in(self, unit: Unit, columns: Residues | None = None) -> None:
        """Add a unit.

        Parameters
        ----------
        unit
            Not folded in yet.
        columns
            The expansion of a unit of one row, if it is at hand.

        Raises
        ------
        Damaged
            The unit's file is. The tiles may hold part of the unit: discard the block.
        """
        self._fold(unit, columns, add=True)
        self.folded.add(unit.name)

    def fold_out(self, unit: Unit, columns: Residues | None = None) -> None:
        """Subtract exactly what :meth:`fold_in` added; same parameters and errors."""
        self._fold(unit, columns, add=False)
        self.folded.discard(unit.name)
        self.retired.append(unit.name)

    def merge(self, other: Block) -> None:
        """Add what another block is the sum of: units that are not folded in here yet."""
        self.unsaved += len(other.folded)
        self._root = ""
        self._evaluator.merge(self.tiles, other.tiles)
        self.folded |= other.folded

    def _fold(self, unit: Unit, columns: Residues | None, *, add: bool) -> None:
        evaluator, first = self._evaluator, unit.placement.first_slot
        self.unsaved += 1
        self._root = ""
        if unit.shape is Shape.ROW:
            if columns is None:
                (row,) = self._files.ciphertexts(unit)
                columns = evaluator.expand(row)
            place = evaluator.add if add else evaluator.subtract
            place(self.tiles, columns, first)
            return
        place_column = evaluator.add_column if add else evaluator.subtract_column
        for index, column in enumerate(self._files.ciphertexts(unit)):
            place_column(self.tiles, index, column.residues, first)

    def reconcile(self, wanted: Iterable[Unit], present: Iterable[Unit]) -> None:
        """Fold in and out whatever differs between the checkpoint and the catalogue.

        Parameters
        ----------
        wanted
            The block's live units.
        present
            The units that the checkpoint names.
        """
        live = {unit.name: unit for unit in wanted}
        stale = [unit for unit in present if unit.name not in live]
        missing = [unit for unit in live.values() if unit.name not in self.folded]
        if stale or missing:
            _log.info("refolding", block=self.number, out=len(stale), into=len(missing))
        for unit in stale:
            self.fold_out(unit)
        for unit in missing:
            self.fold_in(unit)

    def checkpoint(self) -> None:
        """Write the block to disk if it changed, then delete the files of units folded out.

        Raises
        ------
        StorageFull
            No room; the checkpoint before it still stands.
        """
        path = self._path
        if path is None or (not self.unsaved and path.exists()):
            return
        header = BlockHeader(
            self._evaluator.profile.name,
            self._evaluator.dimension,
            self.number,
            tuple(sorted(name.hex() for name in self.folded)),
            self.tiles_root(),
        )
        write_block(path, header, self.tiles)
        _, offset = read_header(path)
        # Mapped again, the tiles are clean pages that the system may drop and read back.
        self.tiles = map_tiles(path, offset, self._shape)
        self.unsaved = 0
        for name in self.retired:
            self._files.remove(name)
        self.retired.clear()
