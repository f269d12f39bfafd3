"""Locks and threads."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from underseal_core.errors import InvalidInput
from underseal_server.engine.locks import SharedLock
from underseal_server.engine.threads import finish


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


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


def test_a_free_lock_takes_no_turn_of_the_loop() -> None:
    async def main() -> None:
        lock = SharedLock()
        turns: list[None] = []
        asyncio.get_running_loop().call_soon(turns.append, None)
        async with lock.reading(), lock.reading():
            pass
        async with lock.writing():
            pass
        assert not turns

    asyncio.run(main())


@pytest.mark.parametrize("writes", [True, False])
def test_who_lets_go_and_comes_again_goes_behind_who_waits(writes: bool) -> None:
    async def main() -> None:
        lock = SharedLock()
        rounds: list[int] = []
        entered = asyncio.Event()

        async def wait() -> None:
            async with lock.writing() if writes else lock.reading():
                entered.set()

        async with lock.writing():
            task = asyncio.create_task(wait())
            await _settle()
        while not entered.is_set() and len(rounds) < 50:
            async with lock.writing():
                rounds.append(1)
                await asyncio.sleep(0)
        await task
        assert len(rounds) <= 1

    asyncio.run(main())


@pytest.mark.parametrize("writes", [True, False])
def test_a_lock_that_was_handed_over_to_who_is_cancelled_goes_on(writes: bool) -> None:
    async def main() -> None:
        lock = SharedLock()
        async with lock.writing():
            first = asyncio.create_task((lock.writing() if writes else lock.reading()).__aenter__())
            second = asyncio.create_task(lock.writing().__aenter__())
            await _settle()
        first.cancel()  # it has the lock, but has not run since
        async with asyncio.timeout(5):
            await second
        assert first.cancelled()

    asyncio.run(main())


def test_a_cancelled_reader_leaves_nothing_behind() -> None:
    async def main() -> None:
        lock = SharedLock()
        async with lock.writing():
            reader = asyncio.create_task(lock.reading().__aenter__())
            await _settle()
            reader.cancel()
            await _settle()
        async with asyncio.timeout(5), lock.writing():
            pass

    asyncio.run(main())


def test_an_error_of_work_is_raised() -> None:
    def work() -> None:
        raise InvalidInput("not this")

    async def main() -> None:
        with ThreadPoolExecutor(1) as pool, pytest.raises(InvalidInput, match="not this"):
            await finish(pool, work)

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
