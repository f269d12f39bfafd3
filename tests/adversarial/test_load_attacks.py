"""Clients that want more of a server than their share."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from tests.search_engine import Place, events, run, settle, stalled
from underseal_core.errors import Busy, Conflict


def test_a_flood_of_one_client_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        admission = place.admission(merged=1)
        for _ in range(500):
            admission.submit(place.job("flooding", patient=True))
        admission.submit(place.job("honest", patient=True))
        served = []
        for _ in range(3):
            batch = await admission.next_batch()
            served.append(batch.jobs[0].asked.client)
            admission.done(batch)
        assert "honest" in served

    run(tmp_path, test)


def test_a_client_that_fills_the_queue_does_not_keep_others_out(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        admission = place.admission(waiting=4)
        admission.submit(place.job("flooding"))
        batch = await admission.next_batch()
        flood = [place.job("flooding") for _ in range(4)]
        for job in flood:
            admission.submit(job)
        with pytest.raises(Busy):
            admission.submit(place.job("flooding"))
        with pytest.raises(Busy):
            admission.ask("flooding", place.hosted, math.inf)
        turned_away = []
        try:
            admission.ask("honest", place.hosted, math.inf)
            admission.submit(place.job("honest"))
        except Busy as error:
            turned_away.append(error)
        assert not turned_away
        assert flood[-1].gone
        admission.done(batch)

    run(tmp_path, test)


def test_requests_that_are_never_found_good_cost_nobody_a_place(tmp_path: Path) -> None:
    """Neither others, nor the client itself: somebody else may use its certificate's machine."""

    async def test(place: Place) -> None:
        place.hosted.pace.expanded(0.1)
        admission = place.admission(waiting=2, wait_factor=3)
        admission.submit(place.job("first"))
        batch = await admission.next_batch()
        waiting = place.job("honest")
        admission.submit(waiting)
        for client in ("forging", "honest"):
            for _ in range(100):
                admission.ask(client, place.hosted, math.inf)
        assert admission.waiting == 1
        assert not waiting.gone
        last = place.job("forging")
        admission.submit(last)
        assert last.tag == waiting.tag
        admission.done(batch)

    run(tmp_path, test)


def test_results_that_are_never_read_are_not_heaped_up(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        async with stalled(place, "silent") as (engine, sizes, _):
            more = [
                asyncio.create_task(events(engine, place.job("silent", patient=True)))
                for _ in range(5)
            ]
            for _ in range(3):
                await events(engine, place.job("honest"))
            await settle()
            assert len(sizes) == 4
            for task in more:
                task.cancel()
            await asyncio.wait(more)
        assert place.unread.total == 0

    run(tmp_path, test)


def test_a_request_is_computed_once_also_when_it_is_sent_twice_at_a_time(tmp_path: Path) -> None:
    used: list[bool] = []

    async def claim() -> None:
        await asyncio.sleep(0.05)  # a commit takes longer than a small expansion
        used.append(True)
        if len(used) > 1:
            raise Conflict("duplicate request id")

    async def test(place: Place) -> None:
        async with place.engine(place.admission()) as (engine, _):
            twice = (events(engine, place.job(patient=True, claim=claim)) for _ in range(2))
            first, second = await asyncio.gather(*twice, return_exceptions=True)
        assert isinstance(first, list)
        assert isinstance(second, Conflict)

    run(tmp_path, test)
