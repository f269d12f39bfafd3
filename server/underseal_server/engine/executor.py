"""Who does the arithmetic of a search: threads of this process, or machines."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from underseal_core.scheme.ciphertext import Ciphertext, Residues
from underseal_core.scheme.evaluation import Evaluator, Probe
from underseal_server.engine.threads import Threads, finish
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import Gallery

BLOCKS_PER_CALL: Final = 4
"""Blocks scored together: the probe stays in cache. Cancelled between calls."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A ciphertext as it will be sent, and its SHA-256 in hex."""

    data: bytes
    sha256: str

    @classmethod
    def of(cls, ciphertext: Ciphertext) -> Sealed:
        """Serialise."""
        data = ciphertext.to_bytes()
        return cls(data, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True, eq=False)
class ReadyProbe:
    """A probe with its norm.

    Parameters
    ----------
    row
        As it was sent.
    norm
        Its squared norm.
    expanded
        ``None``: it was expanded where the blocks are, and is not in this process.
    name
        Of the probe of this search, however often the same row is sent.
    """

    row: Ciphertext
    norm: Sealed
    expanded: Probe | None
    name: bytes = field(default_factory=lambda: secrets.token_bytes(16))


@dataclass(frozen=True, slots=True)
class Scored:
    """A block's result for every probe, in their order."""

    block: int
    sealed: tuple[Sealed, ...]


class Executor(Protocol):
    """Computes on ciphertexts; neither blocks the event loop nor ends before its work does."""

    @property
    def shards(self) -> int:
        """How many other processes score at present; 0: this one does."""

    async def expand(self, evaluator: Evaluator, row: Ciphertext) -> Residues:
        """Return the columns of a row."""

    async def prepare(self, opened: GalleryStore, rows: Sequence[Ciphertext]) -> list[ReadyProbe]:
        """Expand probes for searches of a gallery, and compute their norms."""

    def score(
        self, opened: GalleryStore, probes: Sequence[ReadyProbe], numbers: Collection[int]
    ) -> AsyncGenerator[Scored, None]:
        """Score blocks for every probe, and yield each when it is done; in no certain order.

        Which blocks are scored together, where and in what order, is the executor's choice. What
        is under way ends before the generator is closed.

        Parameters
        ----------
        opened
            The gallery; the caller holds its lock for reading, so it is of one version.
        probes
            From :meth:`prepare`.
        numbers
            Blocks of that version.

        Raises
        ------
        Damaged
            A block's checkpoint is, and a unit's file, too.
        """

    async def forget(self, gallery: Gallery, blocks: Collection[int] | None) -> None:
        """Let nothing stay in memory elsewhere of blocks that were changed; ``None``: of all."""


class ThreadExecutor:
    """The executor of a single machine."""

    def __init__(self, threads: Threads) -> None:
        self._pool = threads.compute
        self._reading = threads.store

    @property
    def shards(self) -> int:
        """See :class:`Executor`: none."""
        return 0

    async def expand(self, evaluator: Evaluator, row: Ciphertext) -> Residues:
        """See :class:`Executor`."""
        return await finish(self._pool, evaluator.expand, row)

    async def prepare(self, opened: GalleryStore, rows: Sequence[Ciphertext]) -> list[ReadyProbe]:
        """See :class:`Executor`."""
        return await finish(self._pool, prepare_probes, opened.evaluator, rows)

    async def score(
        self, opened: GalleryStore, probes: Sequence[ReadyProbe], numbers: Collection[int]
    ) -> AsyncGenerator[Scored, None]:
        """See :class:`Executor`."""
        if not numbers:
            return
        expanded = await self._expanded(opened, probes)
        # Those in memory first: what is read after them takes their place.
        order = sorted(numbers, key=lambda number: not opened.resident(number))
        for start in range(0, len(order), BLOCKS_PER_CALL):
            some = order[start : start + BLOCKS_PER_CALL]
            read = await self._read(opened, some)
            for scored in await finish(self._pool, _scored, opened, expanded, some, read):
                yield scored

    async def forget(self, gallery: Gallery, blocks: Collection[int] | None) -> None:
        """See :class:`Executor`: the gallery's own memory is all there is."""

    async def _expanded(self, opened: GalleryStore, probes: Sequence[ReadyProbe]) -> list[Probe]:
        """Return the probes, of which some may have been expanded elsewhere."""
        rows = [one.row for one in probes if one.expanded is None]
        made = iter(await self.prepare(opened, rows) if rows else ())
        found = (one.expanded or next(made).expanded for one in probes)
        return [one for one in found if one is not None]

    async def _read(self, opened: GalleryStore, numbers: Sequence[int]) -> dict[int, Residues]:
        """Read those that are not in memory, side by side; ends when all have, or failed."""
        absent = [number for number in numbers if not opened.resident(number)]
        reads = [finish(self._reading, opened.tiles, number) for number in absent]
        found = await asyncio.gather(*reads, return_exceptions=True)
        tiles = {}
        for number, one in zip(absent, found, strict=True):
            if isinstance(one, BaseException):
                raise one
            tiles[number] = one
        return tiles


def _scored(
    opened: GalleryStore,
    probes: Sequence[Probe],
    numbers: Sequence[int],
    read: Mapping[int, Residues],
) -> list[Scored]:
    """Score blocks, some of which have just been read."""
    tiles = [read[number] if number in read else opened.tiles(number) for number in numbers]
    results = seal_scores(opened.evaluator, probes, tiles)
    return [Scored(number, sealed) for number, sealed in zip(numbers, results, strict=True)]


def prepare_probes(evaluator: Evaluator, rows: Sequence[Ciphertext]) -> list[ReadyProbe]:
    """Return probes that are expanded, with their norms."""
    ready = zip(rows, evaluator.prepare_many(rows), strict=True)
    return [ReadyProbe(row, Sealed.of(one.norm), one.probe) for row, one in ready]


def seal_scores(
    evaluator: Evaluator, probes: Sequence[Probe], tiles: Sequence[Residues]
) -> list[tuple[Sealed, ...]]:
    """Return every block's results, one for each probe."""
    results = evaluator.score_many(probes, tiles)
    return [tuple(Sealed.of(result) for result in block) for block in zip(*results, strict=True)]
