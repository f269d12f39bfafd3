"""One shard: a process on some machine of the cluster that holds blocks and scores them.

It has checkpoints and evaluation keys, both public to the operator, and nothing else. It trusts
no file: tiles are those of the root that the call names, or they are not used.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from underseal_core.errors import UndersealError
from underseal_core.gallery.memory import BlockMemory
from underseal_core.scheme.ciphertext import Residues
from underseal_core.scheme.evaluation import EvaluationKeys, Evaluator
from underseal_core.scheme.profiles import profile_named
from underseal_server.cluster.checkpoints import Checkpoints, Key, Piece, of_place
from underseal_server.cluster.probes import Probes, Row
from underseal_server.engine.executor import BLOCKS_PER_CALL, seal_scores

_log: Final = structlog.get_logger("underseal.cluster")

Answer = tuple[bytes, ...] | None
"""Serialised ciphertexts, such as the results of a block, one for each probe; ``None``: the shard
cannot have its tiles."""


@dataclass(eq=False, slots=True)
class _Held:
    """A block's tiles while they are in memory."""

    piece: Piece
    tiles: Residues | None

    def drop(self) -> bool:
        """See ``Droppable``."""
        self.tiles = None
        return True


class Shard:
    """Blocks in memory, and who scores them. Runs one call at a time.

    Parameters
    ----------
    checkpoints
        Where blocks are read.
    limit
        Bytes of tiles in memory; beyond it, those that were not used for longest leave.
    probes_limit
        Bytes of expanded probes in memory; see :class:`Probes`.
    threads
        Per call.
    """

    def __init__(
        self, checkpoints: Checkpoints, limit: int, probes_limit: int, threads: int
    ) -> None:
        self._checkpoints = checkpoints
        self._memory = BlockMemory(limit)
        self._probes = Probes(probes_limit)
        self._threads = threads
        self._evaluators: dict[str, Evaluator] = {}
        self._held: dict[Key, _Held] = {}
        self._reads = 0

    def learn(self, epoch: str, profile: str, dimension: int, keys: EvaluationKeys) -> None:
        """Take the evaluation keys of a key epoch; fine when they are known."""
        if epoch not in self._evaluators:
            made = Evaluator(profile_named(profile), dimension, keys, self._threads)
            self._evaluators[epoch] = made

    def prepare(self, epoch: str, row: Row) -> Answer:
        """Expand a probe; return its norm, serialised."""
        return (self._probes.prepare(self._evaluators[epoch], row),)

    def expand(self, epoch: str, row: Row) -> None:
        """Expand a probe before blocks are scored for it."""
        self._probes.get(self._evaluators[epoch], row)

    def drop(self, names: Collection[bytes]) -> None:
        """Let expanded probes go, when their searches are over."""
        self._probes.drop(names)

    def score(self, rows: Sequence[Row], pieces: Sequence[Piece]) -> list[Answer]:
        """Score blocks of one gallery, each exactly as its root says, for every probe.

        Returns
        -------
        list
            For every block its results, or ``None`` if its checkpoint is not of that root.
        """
        found: list[Answer] = []
        for start in range(0, len(pieces), BLOCKS_PER_CALL):
            found += self._scored(rows, pieces[start : start + BLOCKS_PER_CALL])
        return found

    def _scored(self, rows: Sequence[Row], pieces: Sequence[Piece]) -> list[Answer]:
        tiles = [self._tiles(piece) for piece in pieces]
        there = [one for one in tiles if one is not None]
        if not there:
            return [None for _ in tiles]
        evaluator = self._evaluators[pieces[0].epoch]
        probes = [self._probes.get(evaluator, row) for row in rows]
        results = iter(seal_scores(evaluator, probes, there))
        return [
            None if one is None else tuple(sealed.data for sealed in next(results)) for one in tiles
        ]

    def load(self, pieces: Sequence[Piece]) -> None:
        """Read blocks before they are scored."""
        for piece in pieces:
            self._tiles(piece)

    def forget(self, place: str, numbers: Collection[int] | None) -> None:
        """Let blocks leave memory; ``None``: all that were there."""
        for key in of_place(self._held, place, numbers):
            self._leave(key)

    def held(self) -> list[Piece]:
        """Return the blocks in memory."""
        return [held.piece for held in self._held.values() if held.tiles is not None]

    def reads(self) -> int:
        """Return how many blocks were ever read."""
        return self._reads

    def _tiles(self, piece: Piece) -> Residues | None:
        held = self._held.get(piece.key)
        if held is not None and held.tiles is not None and held.piece == piece:
            self._memory.touch(held)
            return held.tiles
        self._leave(piece.key)
        held = _Held(piece, None)
        self._memory.enter(held, piece.size)
        try:
            held.tiles = self._checkpoints.tiles(piece, self._evaluators[piece.epoch])
        except UndersealError as error:
            self._memory.leave(held)
            _log.warning("a block cannot be read", block=piece.number, reason=error.public)
            return None
        self._reads += 1
        self._held[piece.key] = held
        return held.tiles

    def _leave(self, key: Key) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._memory.leave(held)
            held.tiles = None
