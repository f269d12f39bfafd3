"""A search on its way through the server, from its admission to its last event."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.statements import Targets
from underseal_server.engine.executor import ReadyProbe, Sealed
from underseal_server.engine.hosted import Hosted
from underseal_server.engine.unread import Unread
from underseal_server.store.records import View


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
    """What the signed result says: the snapshot, its blocks with hashes, the probe's checks.

    ``blocks``: the SHA-256 of each block's sealed scores, in hex, by number, ascending.
    """

    view: View
    blocks: dict[int, str]
    norm: Sealed
    projection: Sealed
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
        self.gone = False
        """Nobody waits for it any more."""
        self.ready: ReadyProbe | None = None
        self._unread = unread
        self._held = 0
        self._place = -1
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()

    def tell(self, event: Event) -> None:
        """Hand over what is ready."""
        if self.gone:
            return
        if isinstance(event, SealedBlock):
            self._hold(len(event.sealed.data))
        self._events.put_nowait(event)

    def move(self, place: int) -> None:
        """Tell how many searches go before it, if that has changed."""
        if place != self._place:
            self._place = place
            self.tell(Progress(place, 0, 0))

    def fail(self, error: Exception) -> None:
        """End it."""
        self._events.put_nowait(error)
        self.leave()

    def leave(self) -> None:
        """Forget it: nobody waits for it."""
        self.gone = True
        self.ready = None
        self._hold(-self._held)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield what is told, until the outcome.

        Raises
        ------
        Exception
            What it failed with.
        """
        while True:
            event = await self._events.get()
            if isinstance(event, Exception):
                raise event
            yield event
            if isinstance(event, SealedBlock) and not self.gone:
                self._hold(-len(event.sealed.data))
            if isinstance(event, Outcome):
                return

    def _hold(self, size: int) -> None:
        self._held += size
        self._unread.add(self.asked.client, size)
