"""One gallery as an auditor folds it: units as they were enrolled, blocks as their sums.

units/<name>.unit    fetched from the server; their hash is the one that was signed for
blocks/<n>.tiles     checkpoints of the sums
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from underseal_auditor.history import History
from underseal_core.errors import Busy, Damaged, Mismatch
from underseal_core.gallery.block import Block
from underseal_core.gallery.blocks import MAX_UNSAVED_BLOCKS, SUFFIX, checkpoint
from underseal_core.gallery.files import LocalFiles
from underseal_core.gallery.memory import BlockMemory
from underseal_core.gallery.unit import Unit
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.scheme.ciphertext import Ciphertext, Residues
from underseal_core.scheme.evaluation import Evaluator

_log: Final = structlog.get_logger("underseal.replica")

PATIENCE_SECONDS: Final = 60.0
"""Longest wait for blocks that are being folded."""


class Tiles(Mapping[int, Residues]):
    """The tiles of blocks, which come into memory when they are asked for."""

    def __init__(self, blocks: Mapping[int, Block], read: Callable[[Block], Residues]) -> None:
        self._blocks = blocks
        self._read = read

    def __getitem__(self, number: int) -> Residues:
        return self._read(self._blocks[number])

    def __iter__(self) -> Iterator[int]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def only(self, numbers: Iterable[int]) -> Tiles:
        """Return those of some blocks."""
        return Tiles({number: self._blocks[number] for number in numbers}, self._read)


@dataclass(frozen=True, slots=True)
class Folded:
    """What the blocks hold at one version, by number. The tiles must not be changed."""

    tiles: Tiles
    roots: Mapping[int, str]


class GalleryReplica:
    """The units and blocks of one gallery. Thread-safe.

    Parameters
    ----------
    folder
        Of its own; need not exist.
    evaluator
        Of the gallery's key epoch.
    memory
        Bounds the blocks in memory.
    """

    def __init__(self, folder: Path, evaluator: Evaluator, memory: BlockMemory) -> None:
        self._evaluator = evaluator
        self._memory = memory
        self._checkpoints = LocalFiles(folder / "blocks")
        units = LocalFiles(folder / "units")
        self._files = UnitFiles(units, evaluator.profile, evaluator.dimension)
        self._blocks: dict[int, Block] = {}
        self._units: dict[bytes, Unit] = {}
        self._lock = threading.Lock()
        self.following = threading.Lock()
        """Held by whoever brings it up to date."""

    def missing(self, history: History) -> list[Unit]:
        """Return the live units that have to be fetched."""
        with self._folding():
            return [
                history.units[name]
                for number, names in history.at(history.version).items()
                for name in sorted(names - self._block(number).folded)
                if not self._there(name)
            ]

    def sweep(self, history: History) -> None:
        """Delete what neither the catalogue nor a checkpoint needs.

        A checkpoint of units that the catalogue never had is of a gallery that was forgotten.
        """
        wanted = history.at(history.version)
        with self._folding():
            for name in list(self._checkpoints.sizes()):
                if not name.endswith(SUFFIX):
                    continue
                number = int(name.removesuffix(SUFFIX))
                if not self._block(number).folded <= history.units.keys():
                    self._forget(number)
            needed = [block.folded for block in self._blocks.values()]
            self._files.sweep(frozenset().union(*wanted.values(), *needed))

    def keep(self, unit: Unit, ciphertexts: Iterable[bytes]) -> None:
        """Store a unit that was fetched.

        Raises
        ------
        Damaged
            It is not the one that was signed for.
        StorageFull
            No room.
        """
        with self._files.stage(unit.shape) as staged:
            for data in ciphertexts:
                staged.write(data)
            if not staged.complete or staged.sha256 != unit.sha256:
                raise Damaged("the server sent another unit than was enrolled")
            staged.sync()
            self._files.keep(staged, unit.name)

    def fold(self, history: History) -> None:
        """Bring every block to the newest version; all its units are there."""
        wanted = history.at(history.version)
        with self._folding():
            self._units.update(history.units)
            for number in sorted({*wanted, *self._blocks}):
                block, names = self._block(number), wanted.get(number, frozenset())
                if block.folded != names:
                    block = self._sound(number)
                    self._reconcile(block, names)
                if not history.former.isdisjoint(block.retired):
                    block.checkpoint()  # deletes what was erased
                unsaved = [one for one in self._blocks.values() if one.unsaved]
                if len(unsaved) > MAX_UNSAVED_BLOCKS:
                    unsaved[0].checkpoint()

    @contextmanager
    def at(self, history: History, version: int) -> Iterator[Folded]:
        """Hold the blocks as they were at a version; nothing is folded meanwhile.

        Raises
        ------
        Mismatch
            A unit that has left since is not there any more.
        Busy
            The blocks are being folded for long.
        """
        with self._folding():
            self._units.update(history.units)
            blocks = {n: self._as_of(n, names) for n, names in history.at(version).items()}
            roots = {number: block.tiles_root() for number, block in blocks.items()}
            yield Folded(Tiles(blocks, self._read), roots)

    def ciphertexts(self, unit: Unit) -> Iterator[Ciphertext]:
        """Yield a live unit's ciphertexts; see :meth:`UnitFiles.ciphertexts`.

        Raises
        ------
        Mismatch
            It has left since.
        """
        if not self._there(unit.name):
            raise Mismatch("the gallery has changed since this search", hint="search again")
        yield from self._files.ciphertexts(unit)

    def checkpoint(self) -> None:
        """Write the blocks that changed; a unit that has left them is forgotten then."""
        with self._folding():
            for block in self._blocks.values():
                block.checkpoint()

    def _as_of(self, number: int, names: frozenset[bytes]) -> Block:
        """Return the block as it is, or a copy in memory with the difference folded out."""
        block = self._block(number)
        if block.folded == names:
            return block
        if not all(self._there(name) for name in names - block.folded):
            raise Mismatch("the gallery has changed since this search", hint="search again")
        copy = self._sound(number).copy()
        self._reconcile(copy, names)
        return copy

    def _reconcile(self, block: Block, names: frozenset[bytes]) -> None:
        present = [self._units[name] for name in block.folded]
        block.reconcile([self._units[name] for name in names], present)

    def _block(self, number: int) -> Block:
        if number not in self._blocks:
            parts = (number, self._evaluator, self._files, self._memory)
            file = checkpoint(self._checkpoints, number)
            try:
                self._blocks[number] = Block(file, *parts)
            except Damaged:
                self._forget(number)  # its units are folded anew
                self._blocks[number] = Block(file, *parts)
        return self._blocks[number]

    def _read(self, block: Block) -> Residues:
        """Return a block's tiles; from its units, if its checkpoint is damaged."""
        try:
            return block.tiles
        except Damaged as error:
            _log.warning("rebuilding", block=block.number, reason=error.public)
            names = frozenset(block.folded)
            self._forget(block.number)
            again = self._block(block.number)
            self._reconcile(again, names)
            return again.tiles

    def _sound(self, number: int) -> Block:
        """Return a block whose tiles are in memory, checked."""
        self._read(self._block(number))
        return self._block(number)

    def _forget(self, number: int) -> None:
        block = self._blocks.pop(number, None)
        if block is not None:
            block.close()
        self._checkpoints.delete([f"{number}{SUFFIX}"])

    def _there(self, name: bytes) -> bool:
        return self._files.exists(name)

    @contextmanager
    def _folding(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=PATIENCE_SECONDS):
            raise Busy("this auditor is still folding the gallery", retry_after_ms=5000)
        try:
            yield
        finally:
            self._lock.release()
