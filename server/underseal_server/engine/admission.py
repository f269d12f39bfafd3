"""The queue in front of the engine: bounded, first come first served, limits per client."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from underseal_core.errors import Busy

_WEIGHT: Final = 0.2
"""Weight of the newest duration in the running mean."""


class PerClient:
    """Limits what one client may have under way.

    Parameters
    ----------
    limit
        How many.
    what
        What they are called in the refusal: "searches".
    """

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, client: str, retry_after_ms: int = 1000) -> Iterator[None]:
        """Count one while inside.

        Raises
        ------
        Busy
            The client has as many as it may.
        """
        if self._held[client] >= self._limit:
            raise Busy(
                f"client {client} has {self._limit} {self._what} under way",
                retry_after_ms=retry_after_ms,
            )
        self._held[client] += 1
        try:
            yield
        finally:
            self._held[client] -= 1
            if not self._held[client]:
                del self._held[client]


class Ticket:
    """A place in the queue."""

    def __init__(self) -> None:
        self.moved = asyncio.Event()


class Admission:
    """Decides who computes.

    Parameters
    ----------
    running
        Searches that compute at a time.
    waiting
        Searches that may wait.
    per_client
        Searches that one client may have in any state, also those whose results it has yet to
        read: bounds the memory that slow readers hold.
    """

    def __init__(self, *, running: int, waiting: int, per_client: int) -> None:
        self._running_limit = running
        self._waiting_limit = waiting
        self._per_client = PerClient(per_client, "searches")
        self._running = 0
        self._waiting: list[Ticket] = []
        self._mean_seconds = 1.0

    @property
    def waiting(self) -> int:
        """Searches in the queue."""
        return len(self._waiting)

    @contextmanager
    def enter(self, client: str) -> Iterator[Ticket]:
        """Take a place for the duration of a call.

        Raises
        ------
        Busy
            The queue is full, or the client has too many searches.
        """
        with self._per_client.hold(client, self._hint(1)):
            free = self._running < self._running_limit
            if not free and len(self._waiting) >= self._waiting_limit:
                ahead = len(self._waiting)
                raise Busy("the search queue is full", retry_after_ms=self._hint(ahead))
            ticket = Ticket()
            self._waiting.append(ticket)
            try:
                yield ticket
            finally:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                    self._move()

    @asynccontextmanager
    async def turn(self, ticket: Ticket, moved: Callable[[int], None]) -> AsyncIterator[None]:
        """Wait for the ticket's turn, then compute inside the context.

        Parameters
        ----------
        ticket
            From :meth:`enter`.
        moved
            Told the number of searches before this one, at first and when it changes.
        """
        while self._running >= self._running_limit or self._waiting[0] is not ticket:
            moved(self._waiting.index(ticket) + self._running)
            ticket.moved.clear()
            await ticket.moved.wait()
        self._waiting.remove(ticket)
        self._running += 1
        start = time.monotonic()
        try:
            moved(0)
            self._move()
            yield
        finally:
            self._running -= 1
            self._mean_seconds += _WEIGHT * (time.monotonic() - start - self._mean_seconds)
            self._move()

    def _move(self) -> None:
        for ticket in self._waiting:
            ticket.moved.set()

    def _hint(self, ahead: int) -> int:
        """Milliseconds until a place is likely to be free, from the recent mean duration."""
        return max(100, int(1000 * self._mean_seconds * max(1, ahead) / self._running_limit))
