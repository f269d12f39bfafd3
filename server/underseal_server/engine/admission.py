"""The queue in front of the engine: fair between clients, bounded by number and by time.

Fair order is that of start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): a search's tag
is where its client's searches before it end, counted in seconds of work, but not before what runs
now. Whoever asks for little goes before the many of others; idle time gives no credit.
"""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections.abc import Callable
from typing import Final

from underseal_core.errors import Busy
from underseal_server.engine.batch import Batch
from underseal_server.engine.hosted import Hosted
from underseal_server.engine.job import Job
from underseal_server.engine.pace import Pace
from underseal_server.engine.unread import Unread

SHORTEST_WAIT: Final = 0.02
"""Seconds that any search may wait, however quick it is by itself."""
_LEAST_COST: Final = 1e-3
"""Seconds of work that a search counts for at least: also before any was measured."""
_RETRY: Final = 0.1, 60.0
"""Least and most seconds after which the refused are told to try again."""


class Admission:
    """Decides whose search is next.

    Parameters
    ----------
    running
        Batches that compute at a time.
    waiting
        Searches that may wait, patient ones not counted.
    wait_factor
        How long they may wait: with its own time that makes ``1 + wait_factor`` times the
        seconds that one takes where nobody waits, the longest of those that wait or run.
    merged, probe_bytes
        Searches in a batch, and memory of their expanded probes; but one at least.
    unread
        Who must read results before the next search.
    refused
        Told why a search was turned away: "queue" or "deadline".
    """

    def __init__(
        self,
        *,
        running: int,
        waiting: int,
        wait_factor: float,
        merged: int,
        probe_bytes: int,
        unread: Unread,
        refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._lanes = running
        self._limit = waiting
        self._factor = wait_factor
        self._merged = merged
        self._probe_bytes = probe_bytes
        self._unread = unread
        self._refused = refused
        self._queue: list[Job] = []
        self._batches: list[Batch] = []
        self._now = 0.0
        """Tag of the newest search that runs."""
        self._ends: dict[str, float] = {}
        """Where the searches of each client end, in the order of tags."""
        self._changed = asyncio.Event()
        unread.read = self._changed.set

    @property
    def waiting(self) -> int:
        """Searches in the queue."""
        return len(self._queue)

    def ask(self, client: str, hosted: Hosted, deadline: float) -> None:
        """Turn away who :meth:`submit` would turn away now, before anything is known of its search.

        Not for patient ones. It keeps no place for who is not turned away, and takes none from
        anybody: that is done when the search has been found good.

        Raises
        ------
        Busy
            As :meth:`submit`.
        """
        tag = self._tag(client)
        self._check_deadline([one for one in self._queue if one.tag <= tag], hosted, deadline)
        waiting, _ = self._standing()
        if self._unread.full(client) or (waiting and tag < waiting[-1].tag):
            return
        wait = self._too_long(waiting, hosted, 0.0)
        if wait is not None:
            self._refused("queue")
            raise _full(wait)

    def submit(self, job: Job) -> None:
        """Let a search wait for its turn.

        Whoever would wait too long then, in the fair order, is turned away.

        Raises
        ------
        Busy
            This one would; or it could not be done before its deadline.
        """
        client, cost = job.asked.client, max(_LEAST_COST, _cost(job))
        job.tag = self._tag(client)
        insort(self._queue, job, key=lambda one: one.tag)
        try:
            ahead = self._queue[: self._queue.index(job)]
            self._check_deadline(ahead, job.asked.hosted, job.asked.deadline)
            self._shed(job)
        except Busy:
            self._queue.remove(job)
            raise
        self._ends[client] = job.tag + cost
        self._moved()
        self._changed.set()

    def withdraw(self, job: Job) -> None:
        """Take a search out that nobody waits for any more."""
        job.leave()
        if job in self._queue:
            self._drop(job)
            self._moved()

    async def next_batch(self) -> Batch:
        """Wait for a search and begin a batch with it; see :meth:`done`."""
        while (job := self._take(lambda _: True)) is None:
            self._changed.clear()
            await self._changed.wait()
        fit = self._probe_bytes // job.asked.hosted.probe_bytes
        batch = Batch(job, max(1, min(self._merged, fit)))
        self._batches.append(batch)
        self._moved()
        return batch

    def joining(self, batch: Batch) -> Job | None:
        """Take the next search that goes into a batch; ``None`` when there is none.

        It may overtake others, of another gallery, that are patient.
        """
        job = self._take(batch.takes)
        if job is not None:
            batch.add(job)
            self._moved()
        return job

    def done(self, batch: Batch) -> None:
        """Note the end of a batch."""
        self._batches.remove(batch)
        if batch.patient:
            for job in self._queue:
                job.since = time.monotonic()
        if not self._queue and not self._batches:
            self._now = 0.0
            self._ends.clear()

    def _take(self, wanted: Callable[[Job], bool]) -> Job | None:
        for job in list(self._queue):
            if self._unread.full(job.asked.client):
                continue
            if not wanted(job):
                if job.asked.patient:
                    continue
                return None
            if time.monotonic() + _pace(job).alone > job.asked.deadline:
                self._drop(job)
                self._refused("deadline")
                job.fail(_late(self._work(self._queue)))
                continue
            self._queue.remove(job)
            self._now = max(self._now, job.tag)
            return job
        return None

    def _tag(self, client: str) -> float:
        """Return where a search of the client comes in the order."""
        return max(self._now, self._ends.get(client, 0.0))

    def _check_deadline(self, ahead: list[Job], hosted: Hosted, deadline: float) -> None:
        wait = self._until_free(self._batches) + self._work(ahead)
        if time.monotonic() + wait + hosted.pace.alone > deadline:
            self._refused("deadline")
            raise _late(wait)

    def _standing(self) -> tuple[list[Job], dict[Job, float]]:
        """Return those in the queue that somebody waits for.

        Apart, with the time for which they still would, those that would wait too long.
        """
        now, behind_patient = time.monotonic(), any(batch.patient for batch in self._batches)
        waiting, late = list[Job](), dict[Job, float]()
        for job in self._queue:
            if job.asked.patient or self._unread.full(job.asked.client):
                continue
            waited = 0.0 if behind_patient else now - job.since
            wait = self._too_long(waiting, job.asked.hosted, waited)
            if wait is None:
                waiting.append(job)
            else:
                late[job] = wait
        return waiting, late

    def _too_long(self, ahead: list[Job], hosted: Hosted, waited: float) -> float | None:
        """Return how long a search would wait that these go before, if that is too long.

        ``waited``: for how many seconds it has done so already. Patient ones that run do not count.
        """
        free = self._lanes - len(self._batches)
        if len(ahead) < free:
            return None
        urgent = [batch for batch in self._batches if batch.urgent]
        wait = self._work(ahead)
        if len(urgent) == self._lanes:
            wait += self._until_free(urgent)
        paces = [hosted.pace, *(batch.hosted.pace for batch in urgent), *map(_pace, ahead)]
        longest = max((1 + self._factor) * pace.unhurried - pace.alone for pace in paces)
        if len(ahead) < self._limit + free and waited + wait <= max(SHORTEST_WAIT, longest):
            return None
        return wait

    def _shed(self, newest: Job) -> None:
        """Turn away those that would wait too long: what came last may go before others."""
        _, late = self._standing()
        if newest in late:
            self._refused("queue")
            raise _full(late[newest])
        for job, wait in late.items():
            self._refused("queue")
            self._drop(job)
            job.fail(_full(wait))

    def _drop(self, job: Job) -> None:
        """Take a search out of the queue, which its client then has not used."""
        self._queue.remove(job)
        client = job.asked.client
        if client in self._ends:
            self._ends[client] -= max(_LEAST_COST, _cost(job))

    def _until_free(self, batches: list[Batch]) -> float:
        """Return in how many seconds the next batch should begin."""
        if len(batches) < self._lanes:
            return 0.0
        now = time.monotonic()
        return min(batch.left(now) for batch in batches)

    def _work(self, jobs: list[Job]) -> float:
        return sum(_cost(job) for job in jobs) / self._lanes

    def _moved(self) -> None:
        """Tell those who wait how many go before them."""
        running = sum(len(batch.jobs) for batch in self._batches)
        for place, job in enumerate(self._queue):
            if not job.asked.patient:
                job.move(place + running)


def _pace(job: Job) -> Pace:
    return job.asked.hosted.pace


def _cost(job: Job) -> float:
    """Return the seconds that a search is likely to add to those of the others."""
    pace = _pace(job)
    return pace.expand + (pace.more if pace.expand + pace.more <= pace.one else pace.one)


def _milliseconds(seconds: float) -> int:
    least, most = _RETRY
    return int(1000 * min(most, max(least, seconds)))


def _full(wait: float) -> Busy:
    return Busy("the search queue is full", retry_after_ms=_milliseconds(wait))


def _late(wait: float) -> Busy:
    return Busy(
        "the search cannot be done before its deadline",
        retry_after_ms=_milliseconds(wait),
        hint="allow more time, or try again when less is asked",
    )
