"""Searches of one gallery that are scored together."""

from __future__ import annotations

import time
from collections.abc import Sequence

from underseal_server.engine.hosted import Hosted
from underseal_server.engine.job import Job


class Batch:
    """Takes searches in, one after the other, until it is scored.

    Parameters
    ----------
    first
        Its first search.
    limit
        How many it may hold: each keeps an expanded probe in memory.
    """

    def __init__(self, first: Job, limit: int) -> None:
        self.hosted: Hosted = first.asked.hosted
        self._limit = limit
        self._jobs: list[Job] = []
        self._ends = time.monotonic()
        self.add(first)

    @property
    def jobs(self) -> Sequence[Job]:
        """Those whose clients still wait."""
        return [job for job in self._jobs if not job.gone]

    @property
    def urgent(self) -> bool:
        """Whether one of them is not patient."""
        return any(not job.asked.patient for job in self.jobs)

    @property
    def patient(self) -> bool:
        """Whether all that came in are patient."""
        return all(job.asked.patient for job in self._jobs)

    def takes(self, job: Job) -> bool:
        """Tell whether a search may still come in.

        It saves a pass over the blocks, and costs the others its expansion and its part of their
        common pass. Patient ones bear that; the others, while it is less than the pass that is
        saved.
        """
        jobs = self.jobs
        if job.asked.hosted is not self.hosted or len(jobs) >= self._limit:
            return False
        since = next((i for i, one in enumerate(jobs) if not one.asked.patient), len(jobs))
        pace = self.hosted.pace
        return len(jobs) == since or (len(jobs) - since) * (pace.expand + pace.more) < pace.one

    def add(self, job: Job) -> None:
        """Take a search in, which is expanded next."""
        self._jobs.append(job)
        pace = self.hosted.pace
        self._ends = time.monotonic() + pace.expand + pace.score(len(self.jobs))

    def scoring(self) -> None:
        """Note that nothing more comes in."""
        self._ends = time.monotonic() + self.hosted.pace.score(len(self.jobs))

    def left(self, now: float) -> float:
        """Return in how many seconds it should be done, as far as is known."""
        return max(0.0, self._ends - now)
