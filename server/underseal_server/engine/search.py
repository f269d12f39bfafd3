"""One comparison from encrypted probe to sealed results.

Results are handed over through a buffer, so that the queue's place and the gallery's lock are
held while computing only and not while a slow client reads: 16 bytes or less per template.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.statements import Targets
from underseal_server.engine.admission import Admission, Ticket
from underseal_server.engine.executor import Executor, ReadyProbe, Sealed
from underseal_server.engine.hosted import Hosted
from underseal_server.engine.threads import Threads, finish
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import View
from underseal_server.store.templates import Templates


@dataclass(frozen=True, slots=True)
class Progress:
    """``queued``: searches before this one."""

    queued: int
    blocks_done: int
    blocks_total: int


@dataclass(frozen=True, slots=True)
class SealedBlock:
    """Scores of one block."""

    block: int
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the signed result says: the snapshot, its blocks in order, the probe's checks."""

    view: View
    blocks: tuple[SealedBlock, ...]
    probe: ReadyProbe
    compared: int


Event = Progress | SealedBlock | Outcome


@dataclass(frozen=True, slots=True)
class SearchTimes:
    """Seconds of one search, for metrics."""

    queued: float
    expand: float
    score: float


def _ignore(times: SearchTimes) -> None:
    """Observe nothing."""


class SearchEngine:
    """Runs searches, few at a time.

    Parameters
    ----------
    admission
        The queue.
    executor
        The arithmetic.
    templates
        The catalogue, to find a search's targets.
    threads
        For the store's work.
    observer
        Told the times of every finished search.
    """

    def __init__(
        self,
        admission: Admission,
        executor: Executor,
        templates: Templates,
        threads: Threads,
        observer: Callable[[SearchTimes], None] = _ignore,
    ) -> None:
        self.admission = admission
        self._executor = executor
        self._templates = templates
        self._pool = threads.store
        self._observer = observer

    async def run(
        self, ticket: Ticket, hosted: Hosted, row: Ciphertext, targets: Targets
    ) -> AsyncGenerator[Event, None]:
        """Yield progress, sealed blocks as they are ready, and the outcome last.

        Parameters
        ----------
        ticket
            Of the queue.
        hosted
            The gallery.
        row
            The probe, checked against the gallery's profile.
        targets
            Only blocks that hold one are scored; empty for everybody.

        Raises
        ------
        NotFound
            A target is not enrolled, or the gallery was deleted meanwhile.
        """
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        work = asyncio.create_task(self._compute(ticket, hosted, row, targets, events.put_nowait))
        work.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            await work
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait((work,))

    async def _compute(
        self,
        ticket: Ticket,
        hosted: Hosted,
        row: Ciphertext,
        targets: Targets,
        tell: Callable[[Event], None],
    ) -> None:
        begin = time.monotonic()
        async with self.admission.turn(ticket, lambda queued: tell(Progress(queued, 0, 0))):
            start = time.monotonic()
            probe = await self._executor.prepare(hosted.evaluator, row)
            expanded = time.monotonic()
            async with hosted.reading() as opened:
                view = await finish(self._pool, opened.view)
                numbers, compared = await self._chosen(hosted, view, targets)
                blocks = await self._score(opened, probe, numbers, tell)
                # Of the same version; another root if a block had to be made again.
                view = await finish(self._pool, opened.view)
            tell(Outcome(view, tuple(blocks), probe, compared))
        done = time.monotonic()
        self._observer(SearchTimes(start - begin, expanded - start, done - expanded))

    async def _chosen(
        self, hosted: Hosted, view: View, targets: Targets
    ) -> tuple[tuple[int, ...], int]:
        if not targets:
            return tuple(view.blocks), view.templates
        blocks_of = self._templates.blocks_of
        return await finish(self._pool, blocks_of, hosted.gallery, targets)

    async def _score(
        self,
        opened: GalleryStore,
        probe: ReadyProbe,
        numbers: tuple[int, ...],
        tell: Callable[[Event], None],
    ) -> list[SealedBlock]:
        blocks: list[SealedBlock] = []
        async with aclosing(self._executor.score(opened, [probe.probe], numbers)) as scored:
            async for one in scored:
                blocks.append(SealedBlock(one.block, *one.sealed))
                tell(blocks[-1])
                tell(Progress(0, len(blocks), len(numbers)))
        return sorted(blocks, key=lambda one: one.block)
