"""Queue, locks and threads."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from underseal_core.errors import Busy
from underseal_server.engine.admission import Admission
from underseal_server.engine.locks import SharedLock
from underseal_server.engine.threads import finish


async def _turn(admission: Admission, client: str, hold: asyncio.Event, log: list[object]) -> None:
    with admission.enter(client) as ticket:
        async with admission.turn(ticket, lambda ahead: log.append((client, ahead))):
            log.append(client)
            await hold.wait()


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_searches_run_in_order_and_learn_their_place() -> None:
    async def main() -> None:
        admission, hold = Admission(running=1, waiting=4, per_client=4), asyncio.Event()
        log: list[object] = []
        tasks = [asyncio.create_task(_turn(admission, name, hold, log)) for name in "abc"]
        await _settle()
        assert log == [("a", 0), "a", ("b", 1), ("c", 2)]
        hold.set()
        await asyncio.gather(*tasks)
        assert [entry for entry in log if isinstance(entry, str)] == ["a", "b", "c"]
        assert admission.waiting == 0

    asyncio.run(main())


def test_a_full_queue_refuses_with_a_hint() -> None:
    async def main() -> None:
        admission, hold = Admission(running=1, waiting=2, per_client=4), asyncio.Event()
        log: list[object] = []
        tasks = [asyncio.create_task(_turn(admission, name, hold, log)) for name in "abc"]
        await _settle()
        with pytest.raises(Busy, match="queue is full") as refused, admission.enter("d"):
            pass
        assert refused.value.retry_after_ms >= 100
        hold.set()
        await asyncio.gather(*tasks)
        with admission.enter("d"):
            pass

    asyncio.run(main())


def test_one_client_cannot_fill_the_queue() -> None:
    admission = Admission(running=1, waiting=10, per_client=2)
    with ExitStack() as stack:
        stack.enter_context(admission.enter("a"))
        stack.enter_context(admission.enter("a"))
        with pytest.raises(Busy, match="client a has 2 searches"):
            stack.enter_context(admission.enter("a"))
        stack.enter_context(admission.enter("b"))
    stack = ExitStack()
    stack.enter_context(admission.enter("a"))
    stack.close()


def test_a_cancelled_search_frees_its_place() -> None:
    async def main() -> None:
        admission, hold = Admission(running=1, waiting=4, per_client=4), asyncio.Event()
        log: list[object] = []
        first, second, third = (
            asyncio.create_task(_turn(admission, name, hold, log)) for name in "abc"
        )
        await _settle()
        second.cancel()
        await _settle()
        assert log[-1:] == [("c", 1)]
        first.cancel()
        await _settle()
        assert log[-1:] == ["c"]
        hold.set()
        await third

    asyncio.run(main())


def test_readers_share_and_a_writer_is_alone_and_goes_first() -> None:
    async def main() -> None:
        lock, log, go = SharedLock(), [], asyncio.Event()

        async def read(name: str) -> None:
            async with lock.reading():
                log.append(f"+{name}")
                await go.wait()
                log.append(f"-{name}")

        async def write() -> None:
            async with lock.writing():
                log.append("+w")
                await asyncio.sleep(0)
                log.append("-w")

        tasks = [asyncio.create_task(read("a")), asyncio.create_task(read("b"))]
        await _settle()
        tasks.append(asyncio.create_task(write()))
        await _settle()
        tasks.append(asyncio.create_task(read("c")))
        await _settle()
        assert log == ["+a", "+b"]
        go.set()
        await asyncio.gather(*tasks)
        assert log == ["+a", "+b", "-a", "-b", "+w", "-w", "+c", "-c"]

    asyncio.run(main())


def test_a_cancelled_writer_lets_readers_in() -> None:
    async def main() -> None:
        lock = SharedLock()
        async with lock.reading():
            writer = asyncio.create_task(lock.writing().__aenter__())
            await _settle()
            writer.cancel()
            await _settle()
            async with asyncio.timeout(5), lock.reading():
                pass

    asyncio.run(main())


def test_cancelled_work_is_waited_for() -> None:
    async def main() -> None:
        begun, may_end, done = threading.Event(), threading.Event(), []

        def work() -> None:
            begun.set()
            may_end.wait(20)
            done.append(True)

        with ThreadPoolExecutor(1) as pool:
            task = asyncio.create_task(finish(pool, work))
            await asyncio.to_thread(begun.wait, 20)
            task.cancel()
            await _settle()
            assert not task.done()
            task.cancel()
            may_end.set()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert done == [True]

    asyncio.run(main())
