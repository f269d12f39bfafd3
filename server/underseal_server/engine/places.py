"""How much one client may have under way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from underseal_core.errors import Busy


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
        self._freed: dict[str, asyncio.Event] = {}

    @contextmanager
    def hold(self, client: str) -> Iterator[None]:
        """Count one while inside.

        Raises
        ------
        Busy
            The client has as many as it may.
        """
        if self._held[client] >= self._limit:
            raise Busy(f"client {client} has {self._limit} {self._what} under way")
        self._held[client] += 1
        try:
            yield
        finally:
            self.free(client)

    async def take(self, client: str) -> None:
        """Count one, once the client has fewer than it may; see :meth:`free`."""
        while self._held[client] >= self._limit:
            await self._freed.setdefault(client, asyncio.Event()).wait()
        self._held[client] += 1

    def free(self, client: str) -> None:
        """Count one less."""
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]
        if client in self._freed:
            self._freed.pop(client).set()
