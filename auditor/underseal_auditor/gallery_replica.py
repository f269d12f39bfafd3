"""One gallery as an auditor folds it: units as they were enrolled, blocks as their sums.

units/<name>.unit    fetched from the server; their hash is the one that was signed for
blocks/<n>.tiles     checkpoints of the sums
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from underseal_auditor.history import History
from underseal_core.errors import Busy, Damaged, Mismatch
from underseal_core.gallery.block import Block
from underseal_core.gallery.blocks import SUFFIX, checkpoint
from underseal_core.gallery.files import LocalFiles
from underseal_core.gallery.unit import Unit
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.scheme.ciphertext import Ciphertext, Residues
from underseal_core.scheme.evaluation import Evaluator

PATIENCE_SECONDS: Final = 60.0
"""Longest wait for blocks that are being folded."""


@dataclass(frozen=True, slots=True)
class Folded:
    """What the blocks hold at one version, by number. The tiles must not be changed."""

    tiles: Mapping[int, Residues]
    roots: Mapping[int, str]


class GalleryReplica:
    """The units and blocks of one gallery. Thread-safe.

    Parameters
    ----------
    folder
        Of its own; need not exist.
    evaluator
        Of the gallery's key epoch.
    """

    def __init__(self, folder: Path, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
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
                    del self._blocks[number]
                    self._checkpoints.delete([name])
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
                    self._reconcile(block, names)
                if not history.former.isdisjoint(block.retired):
                    block.checkpoint()  # deletes what was erased

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
            yield Folded(
                {number: block.tiles for number, block in blocks.items()},
                {number: block.tiles_root() for number, block in blocks.items()},
            )

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
        copy = block.copy()
        self._reconcile(copy, names)
        return copy

    def _reconcile(self, block: Block, names: frozenset[bytes]) -> None:
        present = [self._units[name] for name in block.folded]
        block.reconcile([self._units[name] for name in names], present)

    def _block(self, number: int) -> Block:
        if number not in self._blocks:
            file = checkpoint(self._checkpoints, number)
            self._blocks[number] = Block(file, number, self._evaluator, self._files)
        return self._blocks[number]

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
