"""A lock for many readers or one writer, for coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class SharedLock:
    """Readers share, a writer is alone; a waiting writer goes before new readers.

    Who finds it free takes it, and anybody lets go of it, without a turn of the event loop.
    """

    def __init__(self) -> None:
        self._readers = 0
        self._writing = False
        self._writers_waiting = 0
        self._waiting: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Hold the lock for reading."""
        await self._until(lambda: not self._writing and not self._writers_waiting)
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            self._changed()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Hold the lock alone."""
        self._writers_waiting += 1
        try:
            await self._until(lambda: not self._writing and not self._readers)
            self._writing = True
        finally:
            self._writers_waiting -= 1
            self._changed()  # readers wait for a writer that has been cancelled no more
        try:
            yield
        finally:
            self._writing = False
            self._changed()

    async def _until(self, free: Callable[[], bool]) -> None:
        while not free():
            change = asyncio.get_running_loop().create_future()
            self._waiting.append(change)
            await change

    def _changed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            if not change.done():  # cancelled
                change.set_result(None)
