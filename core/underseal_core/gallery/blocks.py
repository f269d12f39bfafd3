"""All blocks of a gallery, each as the catalogue says that it must be whenever it is used.

Opening reads the headers of checkpoints only. A block that differs from the catalogue is brought up
to date, and one that is damaged is made again from its units, when it is first used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

import structlog

from underseal_core.errors import Damaged, StorageFull
from underseal_core.gallery.block import Block
from underseal_core.gallery.files import Files, StoredFile
from underseal_core.gallery.memory import BlockMemory
from underseal_core.gallery.unit import Unit
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.scheme.ciphertext import Residues
from underseal_core.scheme.evaluation import Evaluator

MAX_UNSAVED: Final = 64
"""Changes of a block before it must be saved: bounds the work after a crash."""
MAX_UNSAVED_BLOCKS: Final = 4
"""Changed blocks in memory: bounds the memory that blocks in use cannot have."""

SUFFIX: Final = ".tiles"
"""Of the name of a checkpoint, after the number of its block."""
_log: Final = structlog.get_logger("underseal.gallery")


def checkpoint_name(number: int) -> str:
    """Return the name of the file of a block's checkpoint."""
    return f"{number}{SUFFIX}"


def checkpoint(files: Files, number: int) -> StoredFile:
    """Return the file of a block's checkpoint."""
    return StoredFile(files, checkpoint_name(number))


class UnitList(Protocol):
    """The catalogue, as blocks ask it."""

    def live(self, block: int) -> Sequence[Unit]:
        """Return the units that a block must be the sum of."""

    def named(self, names: Collection[bytes]) -> Sequence[Unit]:
        """Return units by name, also those that left; unknown ones are left out."""


class Blocks:
    """The blocks of one gallery.

    Reading is thread-safe, also beside :meth:`checkpoint`; changes need that nothing else runs.

    Parameters
    ----------
    checkpoints
        Their files.
    evaluator
        Of the gallery's key epoch.
    files, units
        The units, and which of them are live.
    memory
        Bounds what is in memory.
    """

    def __init__(
        self,
        checkpoints: Files,
        evaluator: Evaluator,
        files: UnitFiles,
        units: UnitList,
        memory: BlockMemory,
    ) -> None:
        self._checkpoints = checkpoints
        self._evaluator = evaluator
        self._files = files
        self._units = units
        self._memory = memory
        self._blocks: dict[int, Block] = {}
        self._late: set[int] = set()
        """Blocks whose checkpoints differ from the catalogue."""
        self._lock = threading.RLock()
        """Held while blocks come and go."""

    def open(self, live: Mapping[int, Collection[bytes]]) -> set[bytes]:
        """Take note of every checkpoint; reads headers only.

        Parameters
        ----------
        live
            Names of the live units of each block.

        Returns
        -------
        set of bytes
            Names of units that are not live, but that a checkpoint still holds: their files are
            needed until it is replaced.
        """
        leaving: set[bytes] = set()
        for number in sorted({*live, *self.on_disk()}):
            wanted = set(live.get(number, ()))
            try:
                block = Block(*self._parts(number))
            except Damaged:
                self._late.add(number)  # to be made again
                continue
            if block.folded == wanted:
                self._blocks[number] = block
            else:
                self._late.add(number)
                leaving |= block.folded - wanted
        return leaving

    def get(self, number: int) -> Block:
        """Return a block that agrees with the catalogue.

        Raises
        ------
        Damaged
            A unit's file is.
        """
        with self._lock:
            if number not in self._blocks:
                self._blocks[number] = self._made(number)
                self._late.discard(number)
            return self._blocks[number]

    def tiles(self, number: int) -> Residues:
        """Return a block's tiles, which agree with their root. Do not write to them.

        Raises
        ------
        Damaged
            The checkpoint is, and a unit's file, too.
        """
        block = self.get(number)
        try:
            return block.tiles
        except Damaged as error:
            with self._lock:
                if self._blocks.get(number) is block:
                    self.discard(number)
                    self._blocks[number] = self._made_again(number, error)
            return self.get(number).tiles

    def renew(self, number: int) -> Block:
        """Bring a block up to date with the catalogue, which has changed beside it."""
        with self._lock:
            block = self._blocks.get(number)
            if block is None:
                return self.get(number)
            try:
                self._reconcile(block, self._present(block))
            except BaseException:
                self.discard(number)
                raise
            return block

    def resident(self, number: int) -> bool:
        """Whether a block's tiles are in memory."""
        block = self._blocks.get(number)
        return block is not None and block.resident

    def ready(self, number: int) -> Block:
        """Return a block that may change: its checkpoint is not too far behind.

        Raises
        ------
        StorageFull
            It, or another one, must be saved before, and there is no room.
        """
        block = self.get(number)
        if block.unsaved >= MAX_UNSAVED:
            block.checkpoint()
        others = [b for b in self._all() if b.unsaved and b is not block]
        for other in others[: max(0, len(others) + 1 - self._most_unsaved(block))]:
            other.checkpoint()
        return block

    def change(self, block: Block, change: Callable[[Block], None]) -> None:
        """Apply a change that the catalogue has now; if it fails, the block is made when next used.

        Parameters
        ----------
        block
            From :meth:`ready`, before the catalogue had the change: later it would be in there.
        """
        try:
            change(block)
        except Exception:  # noqa: BLE001  # the catalogue is the truth: go on, and log
            self.discard(block.number)
            _log.exception("fold failed", block=block.number)

    def discard(self, number: int) -> None:
        """Forget what is in memory of a block: it is read, or made, when next used."""
        with self._lock:
            block = self._blocks.pop(number, None)
            self._late.add(number)
        if block is not None:
            block.close()

    def checkpoint(self) -> None:
        """Save every changed block, and those that differ from the catalogue.

        One that cannot be saved stays as it is and is tried again.
        """
        for number in sorted(self._late):
            try:
                self.get(number)
            except Damaged as error:
                _log.error("a block cannot be made", block=number, reason=error.public)
        for block in self._all():
            if block.due:
                try:
                    block.checkpoint()
                except (StorageFull, Damaged) as error:
                    _log.warning("not saved", block=block.number, reason=error.public)

    def unsaved(self) -> bool:
        """Whether a checkpoint would do something."""
        return bool(self._late) or any(block.due for block in self._all())

    def close(self) -> None:
        """Take all blocks out of memory."""
        for block in self._all():
            block.close()
        self._blocks.clear()

    def _most_unsaved(self, block: Block) -> int:
        if self._memory.limit is None:
            return MAX_UNSAVED_BLOCKS
        return max(1, min(MAX_UNSAVED_BLOCKS, self._memory.limit // (2 * block.size)))

    def _all(self) -> list[Block]:
        with self._lock:
            return list(self._blocks.values())

    def on_disk(self) -> set[int]:
        """Return the numbers of the blocks that have a checkpoint."""
        names = (name for name in self._checkpoints.sizes() if name.endswith(SUFFIX))
        return {int(name.removesuffix(SUFFIX)) for name in names}

    def _parts(self, number: int) -> tuple[StoredFile, int, Evaluator, UnitFiles, BlockMemory]:
        file = checkpoint(self._checkpoints, number)
        return file, number, self._evaluator, self._files, self._memory

    def _made(self, number: int) -> Block:
        try:
            block = Block(*self._parts(number))
            self._reconcile(block, self._present(block))
        except Damaged as error:
            return self._made_again(number, error)
        return block

    def _made_again(self, number: int, reason: Damaged) -> Block:
        """The units are the truth: make a block from nothing but them."""
        file, *_ = self._parts(number)
        _log.warning("rebuilding", block=number, reason=reason.public)
        file.delete()
        block = Block(*self._parts(number))
        self._reconcile(block, ())
        return block

    def _present(self, block: Block) -> Sequence[Unit]:
        present = self._units.named(block.folded)
        if len(present) != len(block.folded):
            raise Damaged("a block file is damaged: it names unknown units")
        return present

    def _reconcile(self, block: Block, present: Sequence[Unit]) -> None:
        try:
            block.reconcile(self._units.live(block.number), present)
        except BaseException:
            block.close()
            raise
