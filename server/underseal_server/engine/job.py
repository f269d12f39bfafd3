"""A search on its way through the server, from its admission to its last event."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.statements import Targets
from underseal_server.engine.executor import ReadyProbe, Sealed
from underseal_server.engine.hosted import Hosted
from underseal_server.engine.unread import Unread
from underseal_server.store.records import View

TOGETHER: Final = 1 << 20
"""Bytes of sealed scores after which no more events are taken together."""


@dataclass(frozen=True, slots=True)
class Progress:
    """``queued``: searches before this one."""

    queued: int
    blocks_done: int
    blocks_total: int


@dataclass(frozen=True, slots=True)
class SealedBlock:
    """Scores of one block."""

    block: int
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the signed result says: the snapshot, its blocks with hashes, the probe's norm.

    ``blocks``: the SHA-256 of each block's sealed scores, in hex, by number, ascending.
    """

    view: View
    blocks: dict[int, str]
    norm: Sealed
    compared: int


Event = Progress | SealedBlock | Outcome


@dataclass(frozen=True, slots=True)
class Asked:
    """What a search is of.

    Parameters
    ----------
    client
        Who asks.
    hosted
        The gallery.
    targets
        Only blocks that hold one are scored; empty for everybody.
    probe
        Returns the probe, checked against the gallery's profile.
    claim
        Called when the search begins: it refuses what must not be computed.
    patient
        One of many of its client: waits for its turn, however long, and may be merged with others
        as it suits.
    deadline
        Until when the answer is of use, by :func:`time.monotonic`.
    """

    client: str
    hosted: Hosted
    targets: Targets
    probe: Callable[[], Awaitable[Ciphertext]]
    claim: Callable[[], Awaitable[None]]
    patient: bool = False
    deadline: float = math.inf


class Job:
    """What is asked, and what came of it so far.

    Events go through a buffer, so that neither the queue's place nor the gallery's lock is held
    while a slow client reads.

    Parameters
    ----------
    asked
        The search.
    unread
        Counts the bytes in the buffer.
    """

    def __init__(self, asked: Asked, unread: Unread) -> None:
        self.asked = asked
        self.tag = 0.0
        """Place in the fair order; see :class:`~underseal_server.engine.admission.Admission`."""
        self.submitted = time.monotonic()
        self.since = self.submitted
        """From when its wait counts: not while it waits for patient ones."""
        self.gone = False
        """Nobody waits for it any more."""
        self.ready: ReadyProbe | None = None
        self._unread = unread
        self._held = 0
        self._place = 0
        self._told: deque[Event] = deque()
        self._failure: Exception | None = None
        self._news = asyncio.Event()

    def tell(self, event: Event) -> None:
        """Hand over what is ready."""
        if self.gone:
            return
        if isinstance(event, SealedBlock):
            self._hold(len(event.sealed.data))
        self._told.append(event)
        self._news.set()

    def move(self, place: int) -> None:
        """Tell how many searches go before it, if that has changed."""
        if place != self._place:
            self._place = place
            self.tell(Progress(place, 0, 0))

    def fail(self, error: Exception) -> None:
        """End it."""
        self._failure = error
        self._news.set()
        self.leave()

    def leave(self) -> None:
        """Forget it: nobody waits for it."""
        self.gone = True
        self.ready = None
        self._hold(-self._held)

    async def events(self) -> AsyncGenerator[Sequence[Event], None]:
        """Yield what is told, all that is ready at a time, until the outcome.

        Raises
        ------
        Exception
            What it failed with.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            while self._told:
                some = self._take()
                yield some
                if not self.gone:
                    self._hold(-_sealed_bytes(some))
                if isinstance(some[-1], Outcome):
                    return
            if self._failure is not None:
                raise self._failure

    def _take(self) -> list[Event]:
        some: list[Event] = []
        while self._told and _sealed_bytes(some) < TOGETHER:
            some.append(self._told.popleft())
        return some

    def _hold(self, size: int) -> None:
        self._held += size
        self._unread.add(self.asked.client, size)


def _sealed_bytes(events: Sequence[Event]) -> int:
    return sum(len(event.sealed.data) for event in events if isinstance(event, SealedBlock))
