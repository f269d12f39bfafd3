"""Comparisons from encrypted probes to sealed results: several searches of a gallery at a time.

The probes of a batch are expanded, a few at a time; whoever comes meanwhile may join. Then every
block is scored for all of them together, so that it is read from memory once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from underseal_core.errors import UndersealError
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_server.engine.admission import Admission
from underseal_server.engine.batch import Batch
from underseal_server.engine.executor import Executor
from underseal_server.engine.hosted import Hosted
from underseal_server.engine.job import Event, Job, Outcome, Progress, SealedBlock
from underseal_server.engine.threads import Threads, finish, settled
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import View
from underseal_server.store.templates import Templates

PROGRESS_SECONDS: Final = 0.25
"""How often a search tells how far it is."""


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """Seconds of one batch, for metrics: ``queued`` and ``expand`` of each of its searches.

    ``scored``: how many were scored together, of those.
    """

    queued: tuple[float, ...]
    expand: tuple[float, ...]
    score: float
    scored: int


@dataclass(eq=False, slots=True)
class _Compared:
    """A search while its blocks are scored; ``hashes``: of its sealed blocks."""

    job: Job
    numbers: tuple[int, ...]
    compared: int
    hashes: dict[int, str]
    told: float


class SearchEngine:
    """Runs searches, few batches at a time.

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
        Told the times of every finished batch.
    """

    def __init__(
        self,
        admission: Admission,
        executor: Executor,
        templates: Templates,
        threads: Threads,
        observer: Callable[[BatchTimes], None] = lambda times: None,
    ) -> None:
        self._admission = admission
        self._executor = executor
        self._templates = templates
        self._pool = threads.store
        self._observer = observer

    def ask(self, client: str, hosted: Hosted, deadline: float) -> None:
        """Turn away who would be turned away now, whatever is sought: see :class:`Admission`.

        Raises
        ------
        Busy
            As :meth:`search`.
        """
        self._admission.ask(client, hosted, deadline)

    async def search(self, job: Job) -> AsyncGenerator[Sequence[Event], None]:
        """Yield progress, sealed blocks as they are ready, and the outcome last.

        Closed early, it gives up its place at once; what others have in the same batch goes on.

        Raises
        ------
        Busy
            The queue is full, or the deadline cannot be met.
        NotFound
            A target is not enrolled, or the gallery was deleted meanwhile.
        """
        self._admission.submit(job)
        try:
            async with aclosing(job.events()) as events:
                async for some in events:
                    yield some
        finally:
            self._admission.withdraw(job)

    async def keep_running(self) -> None:
        """Run one batch after the other until cancelled."""
        while True:
            batch = await self._admission.next_batch()
            try:
                await self._run(batch)
            except Exception as error:  # noqa: BLE001  # of those who wait; the next batch goes on
                for job in batch.jobs:
                    job.fail(error)
            finally:
                self._admission.done(batch)

    async def _run(self, batch: Batch) -> None:
        queued: list[float] = []
        expand: list[float] = []
        some = self._joined(batch, list(batch.jobs))
        while some:
            begun = time.monotonic()
            queued += [begun - job.submitted for job in some]
            await self._prepare(some)
            expand += [(time.monotonic() - begun) / len(some)] * len(some)
            some = self._joined(batch, [])
        batch.scoring()
        begun = time.monotonic()
        scored = await self._score(batch)
        seconds = time.monotonic() - begun
        self._observer(BatchTimes(tuple(queued), tuple(expand), seconds, scored))

    def _joined(self, batch: Batch, some: list[Job]) -> list[Job]:
        """Fill up to as many searches as there are threads: each then expands a probe alone."""
        while len(some) < batch.hosted.evaluator.threads:
            job = self._admission.joining(batch)
            if job is None:
                break
            some.append(job)
        return some

    async def _prepare(self, jobs: Sequence[Job]) -> None:
        """Expand probes, while it is looked up whether they may be computed."""
        for job in jobs:
            job.move(0)
        claims = [asyncio.ensure_future(_claim(job)) for job in jobs]
        try:
            rows = {job: row for job in jobs if (row := await _probe(job)) is not None}
            if rows:
                await self._expand(rows)
        except Exception as error:  # noqa: BLE001  # of these; the others go on
            for job in jobs:
                job.fail(error)
        finally:
            for claim in claims:
                await settled(claim)

    async def _expand(self, rows: Mapping[Job, Ciphertext]) -> None:
        hosted = next(iter(rows)).asked.hosted
        begun = time.monotonic()
        ready = await self._executor.prepare(hosted.store, list(rows.values()))
        seconds = (time.monotonic() - begun) / len(rows)
        hosted.pace.expanded(seconds, quiet=len(rows) == 1 and not self._admission.waiting)
        for job, one in zip(rows, ready, strict=True):
            job.ready = None if job.gone else one

    async def _score(self, batch: Batch) -> int:
        """Score a batch; return of how many searches."""
        if not batch.jobs:
            return 0
        async with batch.hosted.reading() as opened:
            view = await self._view(opened)
            searches = [one for job in batch.jobs if (one := await self._chosen(job, view))]
            for numbers in dict.fromkeys(one.numbers for one in searches):
                same = [one for one in searches if one.numbers == numbers]
                begun = time.monotonic()
                await self._pass(opened, same, numbers)
                if len(numbers) == len(view.blocks):
                    pace, seconds = batch.hosted.pace, time.monotonic() - begun
                    pace.scored(len(same), seconds, quiet=not self._admission.waiting)
            # Of the same version; another root if a block had to be made again.
            view = await self._view(opened)
        for one in searches:
            if (ready := one.job.ready) is not None:
                hashes = dict(sorted(one.hashes.items()))
                one.job.tell(Outcome(view, hashes, ready.norm, one.compared))
        return len(searches)

    async def _view(self, opened: GalleryStore) -> View:
        known = opened.viewed
        return await finish(self._pool, opened.view) if known is None else known

    async def _chosen(self, job: Job, view: View) -> _Compared | None:
        """Find the blocks of a search; ``None`` if a target is missing."""
        asked = job.asked
        numbers, compared = tuple(view.blocks), view.templates
        if asked.targets:
            gallery, blocks_of = asked.hosted.gallery, self._templates.blocks_of
            try:
                numbers, compared = await finish(self._pool, blocks_of, gallery, asked.targets)
            except UndersealError as error:
                job.fail(error)
                return None
        return _Compared(job, numbers, compared, {}, time.monotonic())

    async def _pass(
        self, opened: GalleryStore, searches: Sequence[_Compared], numbers: Collection[int]
    ) -> None:
        """Score blocks for all of these searches; begin again without those that have gone."""
        left = dict.fromkeys(numbers)
        while left and (present := {one: one.job.ready for one in searches if one.job.ready}):
            probes = list(present.values())
            async with aclosing(self._executor.score(opened, probes, tuple(left))) as scored:
                async for block in scored:
                    del left[block.block]
                    for one, sealed in zip(present, block.sealed, strict=True):
                        one.hashes[block.block] = sealed.sha256
                        one.job.tell(SealedBlock(block.block, sealed))
                        _tell_progress(one, len(numbers))
                    if any(one.job.gone for one in present):
                        break


async def _claim(job: Job) -> None:
    """Use up a search's request; it fails if it must not be computed."""
    try:
        await job.asked.claim()
    except Exception as error:  # noqa: BLE001  # this search's own; the others go on
        job.fail(error)


async def _probe(job: Job) -> Ciphertext | None:
    """Return a search's probe; it fails if there is none."""
    try:
        return await job.asked.probe()
    except Exception as error:  # noqa: BLE001  # this search's own; the others go on
        job.fail(error)
        return None


def _tell_progress(one: _Compared, total: int) -> None:
    now = time.monotonic()
    if len(one.hashes) == total or now - one.told >= PROGRESS_SECONDS:
        one.told = now
        one.job.tell(Progress(0, len(one.hashes), total))
