"""Whose search is next, and who is turned away."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.search_engine import Place, run, settle
from underseal_core.errors import Busy
from underseal_server.engine.admission import Admission
from underseal_server.engine.batch import Batch
from underseal_server.engine.job import Job, Progress
from underseal_server.engine.places import PerClient

LATE = "the search cannot be done before its deadline"


def paced(place: Place, expand: float, one: float, more: float) -> None:
    """Let searches of both galleries take so many seconds."""
    for hosted in (place.hosted, place.other):
        hosted.pace.expanded(expand)
        hosted.pace.scored(1, one)
        hosted.pace.scored(2, one + more)


async def order(admission: Admission) -> list[str]:
    """Take everything out of the queue, one by one."""
    clients = []
    while admission.waiting:
        batch = await admission.next_batch()
        clients.append(batch.jobs[0].asked.client)
        admission.done(batch)
    return clients


async def told(job: Job) -> list[int]:
    """Places that a search that has ended was told, or that was turned away."""
    places: list[int] = []
    with pytest.raises(Busy):
        async for some in job.events():
            for event in some:
                assert isinstance(event, Progress)
                places.append(event.queued)
    return places


def test_searches_of_one_client_keep_their_order_and_learn_their_place(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        admission = place.admission(merged=1)
        jobs = [place.job() for _ in range(3)]
        for job in jobs:
            admission.submit(job)
        assert admission.waiting == 3
        for job in jobs:
            batch = await admission.next_batch()
            assert list(batch.jobs) == [job]
            admission.done(batch)
        for job in jobs:
            job.fail(Busy("over"))
        assert [await told(job) for job in jobs] == [[], [1], [2, 1]]

    run(tmp_path, test)


def test_whoever_asks_for_little_does_not_wait_for_the_many_of_another(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        paced(place, 0.04, 0.01, 0.004)
        admission = place.admission()
        for _ in range(500):
            admission.submit(place.job("heavy", patient=True))
        batch = await admission.next_batch()
        for client in ("light", "other"):
            admission.submit(place.job(client))
            admission.submit(place.job(client, patient=True))
        admission.done(batch)
        served = await order(admission)
        assert sorted(served[:2]) == ["light", "other"]
        assert sorted(served[2:5]) == ["heavy", "light", "other"]
        assert set(served[5:]) == {"heavy"}

    run(tmp_path, test)


def test_idle_time_gives_no_credit(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        paced(place, 0.04, 0.01, 0.004)
        admission = place.admission()
        for _ in range(10):
            admission.submit(place.job("early", patient=True))
        for _ in range(6):
            admission.done(await admission.next_batch())
        for _ in range(4):
            admission.submit(place.job("late", patient=True))
        served = await order(admission)
        assert served[:4].count("late") == 2

    run(tmp_path, test)


def test_a_queue_that_is_full_turns_away_the_last_in_fair_order(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        admission = place.admission(waiting=3)
        running = place.job("heavy")
        admission.submit(running)
        batch = await admission.next_batch()
        heavy = [place.job("heavy") for _ in range(3)]
        for job in heavy:
            admission.submit(job)
        with pytest.raises(Busy, match="queue is full") as refused:
            admission.submit(place.job("heavy"))
        assert refused.value.retry_after_ms >= 100
        light = place.job("light")
        admission.submit(light)
        assert heavy[-1].gone
        assert not light.gone
        assert admission.waiting == 3
        await told(heavy[-1])
        admission.done(batch)
        assert await order(admission) == ["light", "heavy", "heavy"]
        admission.submit(place.job("heavy"))  # there is room again

    run(tmp_path, test)


def test_a_queue_that_takes_too_long_is_full_and_patient_ones_do_not_count(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        paced(place, 0.9, 0.1, 0.05)
        admission = place.admission(waiting=100, wait_factor=1.5)
        many = [place.job("many", patient=True) for _ in range(40)]
        for job in many:
            admission.submit(job)
        lane = await admission.next_batch()
        admission.submit(place.job("a"))
        admission.submit(place.job("b"))
        with pytest.raises(Busy, match="queue is full") as refused:
            admission.submit(place.job("c"))  # 2 s before it, and it takes 1 s itself
        assert 1500 <= refused.value.retry_after_ms <= 2500
        assert admission.waiting == 41
        assert not any(job.gone for job in many)
        admission.done(lane)

    run(tmp_path, test)


def test_the_slower_searches_are_under_load_the_less_they_may_wait(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        pace = place.hosted.pace
        for _ in range(9):
            pace.expanded(0.8, quiet=True)
            pace.scored(1, 0.2, quiet=True)
        admission = place.admission(wait_factor=1.5)
        admission.submit(place.job("running"))
        lane = await admission.next_batch()
        quick, slow = place.job("a"), place.job("b")
        admission.submit(quick)  # 1 s before it, and 2.5 s are allowed for both
        admission.withdraw(quick)
        for _ in range(9):
            pace.expanded(1.4)
        with pytest.raises(Busy, match="queue is full"):
            admission.submit(slow)  # it takes 1.6 s itself
        admission.done(lane)

    run(tmp_path, test)


@pytest.mark.parametrize(("waited", "gives_way"), [(0.0, False), (0.8, True)])
def test_time_that_a_search_has_waited_counts(
    tmp_path: Path, waited: float, gives_way: bool
) -> None:
    async def test(place: Place) -> None:
        paced(place, 0.9, 0.1, 0.05)
        admission = place.admission(wait_factor=2.5)
        admission.submit(place.job("heavy"))
        lane = await admission.next_batch()
        late = place.job("heavy")
        admission.submit(late)
        late.since -= waited  # what runs takes so much longer than it should
        light = place.job("light")
        admission.submit(light)  # with what runs, 2 s that go before, and 2.5 s are allowed
        assert not light.gone
        assert late.gone == gives_way
        admission.done(lane)

    run(tmp_path, test)


def test_time_behind_patient_ones_does_not_count(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        paced(place, 0.009, 0.001, 0.0005)
        admission = place.admission()
        admission.submit(place.job("many", patient=True))
        lane = await admission.next_batch()
        single, second = place.job("one"), place.job("two")
        admission.submit(single)
        await asyncio.sleep(0.1)
        admission.submit(second)
        assert not single.gone
        admission.done(lane)
        admission.submit(place.job("many", patient=True))
        assert not single.gone
        urgent = await admission.next_batch()
        assert urgent.jobs == [single]
        await asyncio.sleep(0.1)
        assert not second.gone
        admission.submit(place.job("many", patient=True))
        assert second.gone  # it has waited for a single ten times as long as that should take
        admission.done(urgent)

    run(tmp_path, test)


def test_who_waits_too_long_gives_way_and_those_behind_stay(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        paced(place, 0.9, 0.1, 0.05)
        admission = place.admission(wait_factor=2)
        admission.submit(place.job("running"))
        lane = await admission.next_batch()
        first, second = place.job("a"), place.job("b")
        admission.submit(first)
        admission.submit(second)
        with pytest.raises(Busy, match="queue is full"):
            admission.ask("c", place.hosted, math.inf)  # 2.9 s before it, and it takes 1 s itself
        first.since -= 3.0
        admission.ask("c", place.hosted, math.inf)  # it would take the place of the first
        assert not first.gone
        admission.submit(place.job("c"))
        assert first.gone
        assert not second.gone
        assert admission.waiting == 2
        admission.done(lane)

    run(tmp_path, test)


@pytest.mark.parametrize("seed", range(5))
def test_who_asks_before_is_told_what_the_queue_would_say(tmp_path: Path, seed: int) -> None:
    async def test(place: Place) -> None:
        rng, said = Random(seed), []
        paced(place, 4.0, 1.0, 0.5)
        admission = place.admission(waiting=3, wait_factor=3)
        for _ in range(200):
            client, patient = rng.choice("abc"), rng.random() < 0.2
            deadline = time.monotonic() + 9 if rng.random() < 0.2 else math.inf
            before = list(admission._queue), dict(admission._ends)
            asked = refusal(lambda: admission.ask(client, place.hosted, deadline))  # noqa: B023
            assert before == (admission._queue, admission._ends)
            job = place.job(client, patient=patient, deadline=deadline)
            answer = refusal(lambda: admission.submit(job))  # noqa: B023
            if not patient:
                said.append(answer)
                assert asked == answer
            if rng.random() < 0.3:
                if admission._batches:
                    admission.done(admission._batches[0])
                if admission.waiting:
                    await admission.next_batch()
        assert set(said) == {"", "the search queue is full", LATE}

    run(tmp_path, test)


def refusal(action: Callable[[], None]) -> str:
    """What somebody is told who is turned away."""
    try:
        action()
    except Busy as error:
        return error.public
    return ""


def test_a_deadline_that_cannot_be_met_is_refused_at_once(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        paced(place, 1.0, 1.0, 0.5)
        admission = place.admission()
        with pytest.raises(Busy, match="deadline") as refused:
            admission.submit(place.job(deadline=time.monotonic() + 1.5))
        assert refused.value.hint
        admission.submit(place.job(deadline=time.monotonic() + 2.5))
        for patient in (False, True):
            with pytest.raises(Busy, match="deadline"):
                admission.submit(place.job(deadline=time.monotonic() + 2.5, patient=patient))
        assert admission.waiting == 1

    run(tmp_path, test)


def test_what_has_expired_in_the_queue_is_never_begun(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        admission = place.admission()
        deadline = time.monotonic() + 1.0
        late, good = place.job(deadline=deadline), place.job()
        admission.submit(late)
        admission.submit(good)
        await asyncio.sleep(deadline - time.monotonic() + 0.01)
        batch = await admission.next_batch()
        assert list(batch.jobs) == [good]
        assert late.gone
        await told(late)

    run(tmp_path, test)


def test_a_search_that_expired_in_the_queue_costs_its_client_nothing(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        paced(place, 0.04, 0.01, 0.004)
        admission = place.admission()
        late, good = place.job("late", deadline=time.monotonic() + 0.2), place.job("good")
        admission.submit(late)
        admission.submit(good)
        await asyncio.sleep(0.2)
        batch = await admission.next_batch()
        assert list(batch.jobs) == [good]
        again = place.job("late")
        admission.submit(again)
        assert again.tag == good.tag
        await told(late)

    run(tmp_path, test)


def test_a_search_that_is_withdrawn_frees_its_place_and_costs_its_client_nothing(
    tmp_path: Path,
) -> None:
    async def test(place: Place) -> None:
        paced(place, 0.04, 0.01, 0.004)
        admission = place.admission(waiting=1)
        admission.submit(place.job())
        batch = await admission.next_batch()
        for _ in range(5):
            job = place.job("other")
            admission.submit(job)
            with pytest.raises(Busy):
                admission.submit(place.job("third"))
            admission.withdraw(job)
        last = place.job("other")
        admission.submit(last)
        assert last.tag == batch.jobs[0].tag
        admission.withdraw(last)
        admission.done(batch)

    run(tmp_path, test)


def test_others_of_the_gallery_join_and_overtake_only_who_is_patient(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        paced(place, 0.01, 1.0, 0.1)
        admission = place.admission()
        first, same, after = place.job("a"), place.job("b"), place.job("c")
        patient = place.job("d", patient=True, hosted=place.other)
        urgent = place.job("e", hosted=place.other)
        for job in (first, patient, same, urgent, after):
            admission.submit(job)
        batch = await admission.next_batch()
        assert admission.joining(batch) is same
        assert admission.joining(batch) is None
        assert list(batch.jobs) == [first, same]
        admission.done(batch)
        batch = await admission.next_batch()
        assert admission.joining(batch) is urgent
        assert admission.joining(batch) is None
        assert list(batch.jobs) == [patient, urgent]

    run(tmp_path, test)


def test_a_search_joins_while_it_costs_no_more_than_the_pass_that_it_saves(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        paced(place, 0.1, 1.0, 0.3)
        batch = Batch(place.job(), 16)
        for _ in range(2):
            assert batch.takes(place.job())
            batch.add(place.job())
        assert not batch.takes(place.job())
        assert not batch.takes(place.job(patient=True))
        patient = Batch(place.job(patient=True), 16)
        for _ in range(15):
            assert patient.takes(place.job(patient=True))
            patient.add(place.job(patient=True))
        assert not patient.takes(place.job(patient=True))

    run(tmp_path, test)


def test_expanded_probes_of_a_batch_take_so_much_memory_and_no_more(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        size = place.hosted.probe_bytes
        for budget, fit in ((3 * size, 3), (size - 1, 1)):
            admission = place.admission(probe_bytes=budget)
            for _ in range(5):
                admission.submit(place.job(patient=True))
            batch = await admission.next_batch()
            while admission.joining(batch) is not None:
                pass
            assert len(batch.jobs) == fit

    run(tmp_path, test)


def test_whoever_does_not_read_waits_and_the_others_do_not(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        admission = place.admission()
        slow = place.job("slow")
        place.unread.add("slow", 64 << 20)
        admission.submit(slow)
        admission.submit(place.job("quick"))
        batch = await admission.next_batch()
        assert batch.jobs[0].asked.client == "quick"
        admission.done(batch)
        later = asyncio.create_task(admission.next_batch())
        await settle()
        assert not later.done()
        place.unread.add("slow", -(1 << 20))
        assert list((await later).jobs) == [slow]

    run(tmp_path, test)


def test_one_client_has_so_many_and_no_more() -> None:
    async def main() -> None:
        places = PerClient(2, "searches")
        with places.hold("a"), places.hold("a"), places.hold("b"):
            with pytest.raises(Busy, match="client a has 2 searches"), places.hold("a"):
                pass
            waiting = asyncio.create_task(places.take("a"))
            await settle()
            assert not waiting.done()
        await waiting
        places.free("a")

    asyncio.run(main())
