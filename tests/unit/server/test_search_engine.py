"""Searches that are scored together, on real galleries: equal results, ends of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.search_engine import ENROLLED, LAB, Place, events, run, settle, stalled
from underseal_core.errors import Busy, Conflict, NotFound
from underseal_core.statements import Targets
from underseal_server.engine.job import Event, Outcome, Progress, SealedBlock
from underseal_server.engine.pace import Pace

ROWS = [LAB.probe(vector) for vector in ENROLLED]


def sealed(told: list[Event]) -> dict[int, bytes]:
    """Sealed scores by block."""
    return {event.block: event.sealed.data for event in told if isinstance(event, SealedBlock)}


def outcome(told: list[Event]) -> Outcome:
    """The end of a search."""
    assert isinstance(told[-1], Outcome)
    return told[-1]


def test_searches_that_are_merged_give_what_each_gives_alone(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        async with place.engine(place.admission()) as (engine, sizes):
            alone = [await events(engine, place.job(row=row)) for row in ROWS]
            assert sizes == [1, 1, 1]
            jobs = [place.job(f"client {i}", row=row, patient=True) for i, row in enumerate(ROWS)]
            merged = await asyncio.gather(*(events(engine, job) for job in jobs))
            assert sizes == [1, 1, 1, 3]
        for one, other in zip(alone, merged, strict=True):
            assert sealed(one) == sealed(other) != {}
            assert outcome(one).blocks == outcome(other).blocks
            assert outcome(one).norm == outcome(other).norm
            assert outcome(one).view == outcome(other).view
        assert len({sealed(one)[0] for one in merged}) == len(ROWS)
        assert place.unread.total == 0

    run(tmp_path, test)


def test_what_waits_when_a_search_ends_is_merged_and_others_galleries_are_not(
    tmp_path: Path,
) -> None:
    async def test(place: Place) -> None:
        place.hosted.pace.expanded(0.001)
        place.hosted.pace.scored(1, 5.0)  # a gallery of millions
        place.hosted.pace.scored(2, 5.5)
        async with place.engine(place.admission(wait_factor=100)) as (engine, sizes):
            async with place.hosted.writing():
                first = asyncio.create_task(events(engine, place.job()))
                await asyncio.sleep(0.1)
                tasks = [asyncio.create_task(events(engine, place.job(f"c{i}"))) for i in range(4)]
                elsewhere = asyncio.create_task(events(engine, place.job(hosted=place.other)))
                await settle()
                assert not any(task.done() for task in (first, elsewhere, *tasks))
            told = await asyncio.gather(first, elsewhere, *tasks)
            assert sorted(sizes) in ([1, 1, 4], [1, 5])
        assert all(outcome(one).compared == 3 for one in told)
        assert any(isinstance(event, Progress) and event.queued for event in told[2])

    run(tmp_path, test)


def test_one_that_fails_does_not_fail_those_that_it_is_merged_with(tmp_path: Path) -> None:
    async def used() -> None:
        raise Conflict("duplicate request id")

    async def test(place: Place) -> None:
        async with place.engine(place.admission()) as (engine, sizes):
            missing = Targets(subject_ids=("00" * 16,))
            jobs = [
                place.job(patient=True),
                place.job(patient=True, claim=used),
                place.job(patient=True, targets=missing),
                place.job(patient=True),
            ]
            runs = (events(engine, job) for job in jobs)
            first, second, third, last = await asyncio.gather(*runs, return_exceptions=True)
            assert sizes == [4]
            assert place.scored == [2]
        assert isinstance(second, Conflict)
        assert isinstance(third, NotFound)
        assert isinstance(first, list)
        assert isinstance(last, list)
        assert sealed(first) == sealed(last)

    run(tmp_path, test)


def test_one_that_goes_away_leaves_the_others_their_results(tmp_path: Path) -> None:
    """While it waits, while it is expanded, and between blocks."""

    async def test(place: Place) -> None:
        admission = place.admission()
        async with place.engine(admission) as (engine, _):
            expected = sealed(await events(engine, place.job()))
            for moment in ("waiting", "expanding", "scoring"):
                async with place.hosted.writing():
                    jobs = [place.job(patient=True) for _ in range(3)]
                    tasks = [asyncio.create_task(events(engine, job)) for job in jobs]
                    await settle()
                    if moment == "scoring":
                        while not all(job.ready for job in jobs):  # noqa: ASYNC110  # of threads
                            await asyncio.sleep(0.001)
                    leaving = tasks[0] if moment == "expanding" else tasks[1]
                    leaving.cancel()
                    await settle()
                    assert leaving.done()  # at once: nothing of it is waited for
                    assert jobs[tasks.index(leaving)].gone
                left = [task for task in tasks if task is not leaving]
                assert [sealed(one) for one in await asyncio.gather(*left)] == [expected] * 2
            assert admission.waiting == 0
        assert place.unread.total == 0

    run(tmp_path, test)


def test_a_gallery_that_goes_fails_its_searches_and_no_others(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        async with place.engine(place.admission()) as (engine, _):
            place.hosted.deleted = True
            jobs = [place.job(patient=True), place.job(patient=True)]
            jobs.append(place.job(patient=True, hosted=place.other))
            runs = (events(engine, job) for job in jobs)
            first, second, third = await asyncio.gather(*runs, return_exceptions=True)
            place.hosted.deleted = False
            assert isinstance(first, NotFound)
            assert isinstance(second, NotFound)
            assert isinstance(third, list)
            again = await events(engine, place.job())
        assert sealed(again)

    run(tmp_path, test)


def test_times_are_those_where_nobody_waits_if_nobody_does(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        place.hosted.pace = kept = Kept()
        async with place.engine(place.admission(merged=1)) as (engine, _):
            await events(engine, place.job())
            assert kept.quiet == [True, True]
            await asyncio.gather(*(events(engine, place.job()) for _ in range(2)))
            assert kept.quiet[2:] == [False, False, True, True]

    run(tmp_path, test)


class Kept(Pace):
    """Keeps what it is told of who waited."""

    def __init__(self) -> None:
        super().__init__()
        self.quiet: list[bool] = []

    def expanded(self, seconds: float, *, quiet: bool = False) -> None:
        super().expanded(seconds, quiet=quiet)
        self.quiet.append(quiet)

    def scored(self, probes: int, seconds: float, *, quiet: bool = False) -> None:
        super().scored(probes, seconds, quiet=quiet)
        self.quiet.append(quiet)


def test_results_that_nobody_reads_keep_their_client_from_the_next_search(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        async with stalled(place, "slow") as (engine, sizes, slow):
            assert place.unread.total > 0
            waiting = asyncio.create_task(events(engine, place.job("slow", patient=True)))
            for _ in range(3):
                await events(engine, place.job("quick"))
            assert not waiting.done()
            assert len(sizes) == 4
            await slow.aclose()
            assert sealed(await waiting)
        assert place.unread.total == 0

    run(tmp_path, test)


def test_a_search_that_is_turned_away_ends_with_busy(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        async with place.engine(place.admission(waiting=1)) as (engine, _):
            async with place.hosted.writing():
                heavy = [asyncio.create_task(events(engine, place.job("heavy"))) for _ in range(2)]
                await asyncio.sleep(0.1)
                light = asyncio.create_task(events(engine, place.job("light")))
                await settle()
                assert heavy[1].done()
                with pytest.raises(Busy, match="queue is full"):
                    await heavy[1]
            assert sealed(await heavy[0])
            assert sealed(await light)

    run(tmp_path, test)
