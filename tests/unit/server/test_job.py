"""What a search is told reaches its client: all that is ready at a time, and nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.search_engine import Place, run
from underseal_core.errors import Busy
from underseal_server.engine.executor import Sealed
from underseal_server.engine.job import TOGETHER, Event, Job, Outcome, Progress, SealedBlock
from underseal_server.store.records import View

NORM = Sealed(b"", "")
OUTCOME = Outcome(View(1, "", 0, {}), {}, NORM, 0)


def block(number: int, size: int) -> SealedBlock:
    return SealedBlock(number, Sealed(bytes(size), ""))


async def read(job: Job, into: list[list[Event]]) -> None:
    async for some in job.events():
        into.append(list(some))


def test_what_is_ready_comes_together(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        job, found = place.job(), list[list[Event]]()
        told: list[Event] = [Progress(1, 0, 0), block(0, 10), block(1, 10), OUTCOME]
        for event in told:
            job.tell(event)
        assert place.unread.total == 20
        await read(job, found)
        assert found == [told]
        assert place.unread.total == 0

    run(tmp_path, test)


def test_no_more_than_a_message_holds_comes_together(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        job, found = place.job(), list[list[Event]]()
        for number in range(5):
            job.tell(block(number, TOGETHER // 2))
        job.tell(OUTCOME)
        await read(job, found)
        assert [len(some) for some in found] == [2, 2, 2]

    run(tmp_path, test)


def test_what_comes_later_is_not_waited_for(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        job, found = place.job(), list[list[Event]]()
        reading = asyncio.create_task(read(job, found))
        job.tell(block(0, 10))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert found == [[block(0, 10)]]
        job.tell(OUTCOME)
        await reading
        assert found[1:] == [[OUTCOME]]

    run(tmp_path, test)


def test_a_failure_comes_after_what_was_told_before(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        job, found = place.job(), list[list[Event]]()
        job.tell(Progress(2, 0, 0))
        job.tell(block(0, 10))
        job.fail(Busy("the queue is full"))
        job.tell(OUTCOME)  # too late
        with pytest.raises(Busy):
            await read(job, found)
        assert found == [[Progress(2, 0, 0), block(0, 10)]]
        assert place.unread.total == 0

    run(tmp_path, test)
