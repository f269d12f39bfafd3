"""One block: the units folded into it, its tiles while they are in memory, its checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Self

import numpy as np
import structlog

from underseal_core.errors import Damaged
from underseal_core.gallery.block_file import (
    BlockHeader,
    read_header,
    read_tiles,
    write_block,
)
from underseal_core.gallery.files import StoredFile
from underseal_core.gallery.memory import BlockMemory, page_memory, tiles_bytes
from underseal_core.gallery.tiles import tiles_root
from underseal_core.gallery.unit import Shape, Unit
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.ring.kernel import aligned
from underseal_core.scheme.ciphertext import Ciphertext, Residues
from underseal_core.scheme.evaluation import Evaluator, tiles_shape

_log: Final = structlog.get_logger("underseal.gallery")
_NO_BOUND: Final = BlockMemory(None)


class Block:
    """A block as of its checkpoint, or empty. Its tiles are read and checked when first used.

    Reading is thread-safe, also beside a checkpoint; changes need that nothing else runs.

    Parameters
    ----------
    file
        The checkpoint; need not exist. ``None``: the block is in memory only.
    number
        Number of the block in its gallery.
    evaluator
        Of the gallery's key epoch.
    files
        Of the gallery's units.
    memory
        Bounds how many blocks have their tiles in memory; without it there is no bound.

    Raises
    ------
    Damaged
        The checkpoint exists but is not one of this block.
    """

    def __init__(
        self,
        file: StoredFile | None,
        number: int,
        evaluator: Evaluator,
        files: UnitFiles,
        memory: BlockMemory = _NO_BOUND,
    ) -> None:
        self._file = file
        self._evaluator = evaluator
        self._files = files
        self._memory = memory
        self.number = number
        self.folded: set[bytes] = set()
        """Names of the units that the tiles are the sum of."""
        self.unsaved = 0
        """Changes since the checkpoint."""
        self.retired: list[bytes] = []
        """Names of units folded out since the checkpoint: it still needs their files."""
        self._root = ""
        self._shape = tiles_shape(evaluator.profile, evaluator.dimension)
        self._lock = threading.Lock()
        """Held while the tiles come, change or go."""
        self._tiles: Residues | None = None
        self._stored = False
        """Whether there is a checkpoint."""
        if file is not None and file.exists():
            self._open(file)

    def _open(self, file: StoredFile) -> None:
        header, _ = read_header(file)
        profile, dimension = self._evaluator.profile.name, self._evaluator.dimension
        if (header.profile, header.dimension, header.block) != (profile, dimension, self.number):
            raise Damaged("a block file is damaged: it is of another block")
        self._root, self._stored = header.tiles_root, True
        self.folded = {bytes.fromhex(name) for name in header.units}

    @property
    def saved_root(self) -> str:
        """The root of the checkpoint; empty while the block differs from it."""
        return self._root if self._stored and not self.unsaved else ""

    @property
    def size(self) -> int:
        """Bytes of the tiles."""
        return tiles_bytes(self._evaluator.profile, self._evaluator.dimension)

    @property
    def tiles(self) -> Residues:
        """The tiles, read from the checkpoint if they are not in memory. Do not write to them.

        Raises
        ------
        Damaged
            The checkpoint's tiles were changed.
        """
        with self._lock:
            return self._resident()

    @property
    def resident(self) -> bool:
        """Whether the tiles are in memory."""
        return self._tiles is not None

    def _resident(self) -> Residues:
        if self._tiles is not None:
            self._memory.touch(self)
            return self._tiles
        self._memory.enter(self, self.size)
        try:
            self._tiles = self._load()
        except BaseException:
            self._memory.leave(self)
            raise
        return self._tiles

    def _load(self) -> Residues:
        if self._file is None:  # a sum that is short-lived: clearing pages anew costs more
            tiles = aligned(self._shape)
            tiles.fill(0)
            return tiles
        if not self._stored:
            return page_memory(self._shape)
        header, offset = read_header(self._file)
        if header.tiles_root != self._root:
            raise Damaged("a block file is damaged: it is not the one that was written")
        return read_tiles(self._file, header, offset, self._shape)

    def drop(self) -> bool:
        """Let the tiles leave memory if the checkpoint has them; return whether they did."""
        if self._file is None or not self._lock.acquire(blocking=False):
            return False
        try:
            if self.unsaved:
                return False
            self._tiles = None
            return True
        finally:
            self._lock.release()

    def close(self) -> None:
        """Take the tiles out of memory; the block must not be used any more."""
        self._memory.leave(self)
        self._tiles = None

    def tiles_root(self) -> str:
        """Return the hex root over the tiles; computed once after a change."""
        if not self._root:
            self._root = tiles_root(self.tiles)
        return self._root

    def copy(self) -> Self:
        """Return a block in memory only that holds the same."""
        copy = type(self)(None, self.number, self._evaluator, self._files)
        copy.folded, copy._root = set(self.folded), self._root
        np.copyto(copy.tiles, self.tiles)
        return copy

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
            The unit's file is, or the checkpoint. The tiles may hold part of the unit: discard
            the block.
        """
        self._fold(unit, columns, add=True)
        self.folded.add(unit.name)

    def fold_rows_in(self, units: Sequence[Unit], rows: Sequence[Ciphertext]) -> None:
        """Add units of one row each, together: the block is read and written once.

        Parameters
        ----------
        units
            Not folded in yet.
        rows
            The ciphertext of each.
        """
        with self._changing(len(units)) as tiles:
            self._evaluator.add_rows(tiles, rows, [unit.placement.first_slot for unit in units])
        self.folded.update(unit.name for unit in units)

    def fold_out(self, unit: Unit, columns: Residues | None = None) -> None:
        """Subtract exactly what :meth:`fold_in` added; same parameters and errors."""
        self._fold(unit, columns, add=False)
        self.folded.discard(unit.name)
        self.retired.append(unit.name)

    def merge(self, other: Block) -> None:
        """Add what another block is the sum of: units that are not folded in here yet."""
        with self._changing(len(other.folded)) as tiles:
            self._evaluator.merge(tiles, other.tiles)
        self.folded |= other.folded

    @contextmanager
    def _changing(self, changes: int) -> Iterator[Residues]:
        with self._lock:
            tiles = self._resident()
            self.unsaved += changes
            self._root = ""
            yield tiles

    def _fold(self, unit: Unit, columns: Residues | None, *, add: bool) -> None:
        evaluator, first = self._evaluator, unit.placement.first_slot
        with self._changing(1) as tiles:
            if unit.shape is Shape.ROW:
                if columns is None:
                    (row,) = self._files.ciphertexts(unit)
                    if add:
                        evaluator.add_rows(tiles, [row], [first])
                        return
                    columns = evaluator.expand(row)
                place = evaluator.add if add else evaluator.subtract
                place(tiles, columns, first)
                return
            place_column = evaluator.add_column if add else evaluator.subtract_column
            for index, column in enumerate(self._files.ciphertexts(unit)):
                place_column(tiles, index, column.residues, first)

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

    @property
    def due(self) -> bool:
        """Whether a checkpoint would do something."""
        return self._file is not None and bool(self.unsaved or self.retired)

    def checkpoint(self) -> None:
        """Write the block to disk if it changed, then delete the files of units folded out.

        Raises
        ------
        StorageFull, Damaged
            The storage failed. The checkpoint before it still stands, or files of units that left
            are still there; the next checkpoint goes on.
        """
        if self._file is None:
            return
        if self.unsaved or not self._stored:
            self._write(self._file)
        while self.retired:
            self._files.remove(self.retired[-1])
            self.retired.pop()

    def _write(self, file: StoredFile) -> None:
        header = BlockHeader(
            self._evaluator.profile.name,
            self._evaluator.dimension,
            self.number,
            tuple(sorted(name.hex() for name in self.folded)),
            self.tiles_root(),
        )
        write_block(file, header, self.tiles)
        self.unsaved, self._stored = 0, True
