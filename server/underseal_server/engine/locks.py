"""A lock for many readers or one writer, for coroutines."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class SharedLock:
    """Readers share, a writer is alone; whoever waits goes before those that come later.

    Who finds it free takes it, and anybody lets go of it, without a turn of the event loop.
    """

    def __init__(self) -> None:
        self._readers = 0
        self._writing = False
        self._waiting: deque[tuple[asyncio.Future[None], bool]] = deque()
        """In order of arrival; True for writers."""

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Hold the lock for reading."""
        await self._take(writes=False)
        try:
            yield
        finally:
            self._release(writes=False)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Hold the lock alone."""
        await self._take(writes=True)
        try:
            yield
        finally:
            self._release(writes=True)

    async def _take(self, *, writes: bool) -> None:
        if not self._waiting and self._free(writes=writes):
            self._hold(writes=writes)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, writes))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # passed over already
                    self._waiting.remove((turn, writes))
                self._pass_on()  # those behind it may go
            else:
                self._release(writes=writes)  # handed over a moment ago
            raise

    def _free(self, *, writes: bool) -> bool:
        return not self._writing and not (writes and self._readers)

    def _hold(self, *, writes: bool) -> None:
        if writes:
            self._writing = True
        else:
            self._readers += 1

    def _release(self, *, writes: bool) -> None:
        if writes:
            self._writing = False
        else:
            self._readers -= 1
        self._pass_on()

    def _pass_on(self) -> None:
        """Hand the lock to those that wait, as far as it is free."""
        while self._waiting:
            turn, writes = self._waiting[0]
            if not turn.cancelled():
                if not self._free(writes=writes):
                    return
                self._hold(writes=writes)
                turn.set_result(None)
            self._waiting.popleft()
