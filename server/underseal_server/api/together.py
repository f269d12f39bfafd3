"""One call with many searches: each is answered as by a call of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Final

from underseal_core.credentials import Peer
from underseal_core.rpc.guard import refusal
from underseal_core.rpc.status import ERROR_KEY, HINT_KEY, PUSHBACK_KEY
from underseal_proto.v1 import search_pb2
from underseal_server.api.access import SEARCH_SERVICE
from underseal_server.engine.places import PerClient
from underseal_server.engine.threads import settled

Answer = AsyncGenerator[search_pb2.SearchResponse, None]
"""What is sent of one search."""

_METHOD: Final = f"/{SEARCH_SERVICE}/SearchMany"


class Together:
    """Reads requests while there is a place for them, and yields what comes of any.

    Parameters
    ----------
    requests
        The call's messages.
    peer
        Who calls.
    places
        How many searches of a client may be under way.
    answer
        Answers one request.
    """

    def __init__(
        self,
        requests: AsyncIterator[search_pb2.SearchManyRequest],
        peer: Peer,
        places: PerClient,
        answer: Callable[[search_pb2.SearchRequest], Answer],
    ) -> None:
        self._requests = requests
        self._peer = peer
        self._places = places
        self._answer = answer
        # Of one: nothing more is taken out of the engine's buffer than the caller reads.
        self._ready: asyncio.Queue[search_pb2.SearchManyResponse | None] = asyncio.Queue(1)

    async def answers(self) -> AsyncGenerator[search_pb2.SearchManyResponse, None]:
        """Yield what comes of every request, or its refusal; ends when all have."""
        reading = asyncio.create_task(self._read())
        try:
            while (answer := await self._ready.get()) is not None:
                yield answer
            await reading
        finally:
            reading.cancel()
            await settled(reading)

    async def _read(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                index = 0
                async for message in self._requests:
                    await self._places.take(self._peer.name)
                    task = group.create_task(self._tell(index, message.search))
                    task.add_done_callback(lambda _: self._places.free(self._peer.name))
                    index += 1
        except asyncio.CancelledError:
            raise  # nobody reads any more
        except BaseException:
            await self._ready.put(None)
            raise
        await self._ready.put(None)

    async def _tell(self, index: int, request: search_pb2.SearchRequest) -> None:
        try:
            async with aclosing(self._answer(request)) as answer:
                async for some in answer:
                    await self._ready.put(search_pb2.SearchManyResponse(index=index, found=some))
        except Exception as error:  # noqa: BLE001  # the other requests go on
            refused = _refusal(error, self._peer)
            await self._ready.put(search_pb2.SearchManyResponse(index=index, refusal=refused))


def _refusal(error: Exception, peer: Peer) -> search_pb2.SearchRefusal:
    status = refusal(error, _METHOD, f"{peer.role}/{peer.name}")
    trailing = dict(status.trailing)
    return search_pb2.SearchRefusal(
        code=status.code.value[0],
        text=status.details,
        error=trailing.get(ERROR_KEY, ""),
        hint=trailing.get(HINT_KEY, ""),
        retry_after_ms=int(trailing.get(PUSHBACK_KEY, "0")),
    )
