"""One call with many searches: each is answered as by a call of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Final

import structlog

from underseal_core.rpc.status import ERROR_KEY, HINT_KEY, PUSHBACK_KEY, new_incident, to_status
from underseal_proto.v1 import search_pb2
from underseal_server.engine.places import PerClient
from underseal_server.engine.threads import settled

_log: Final = structlog.get_logger("underseal.rpc")


class Together:
    """Reads requests while there is a place for them, and yields what comes of any.

    Parameters
    ----------
    requests
        The call's messages.
    client
        Who calls.
    places
        How many searches of the client may be under way.
    parts
        Answers one request.
    """

    def __init__(
        self,
        requests: AsyncIterator[search_pb2.SearchManyRequest],
        client: str,
        places: PerClient,
        parts: Callable[[search_pb2.SearchRequest], AsyncGenerator[search_pb2.SearchPart, None]],
    ) -> None:
        self._requests = requests
        self._client = client
        self._places = places
        self._parts = parts
        # Of one: nothing more is taken out of the engine's buffer than the caller reads.
        self._ready: asyncio.Queue[search_pb2.SearchManyResponse | None] = asyncio.Queue(1)

    async def answers(self) -> AsyncGenerator[search_pb2.SearchManyResponse, None]:
        """Yield the parts of every request's answer, or its refusal; ends when all have."""
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
                    await self._places.take(self._client)
                    task = group.create_task(self._answer(index, message.search))
                    task.add_done_callback(lambda _: self._places.free(self._client))
                    index += 1
        except asyncio.CancelledError:
            raise  # nobody reads any more
        except BaseException:
            await self._ready.put(None)
            raise
        await self._ready.put(None)

    async def _answer(self, index: int, request: search_pb2.SearchRequest) -> None:
        try:
            async with aclosing(self._parts(request)) as parts:
                async for part in parts:
                    await self._ready.put(search_pb2.SearchManyResponse(index=index, part=part))
        except Exception as error:  # noqa: BLE001  # the other requests go on
            refusal = _refusal(error, self._client)
            await self._ready.put(search_pb2.SearchManyResponse(index=index, refusal=refusal))


def _refusal(error: Exception, client: str) -> search_pb2.SearchRefusal:
    incident = new_incident()
    status = to_status(error, incident)
    code, name = status.code.value
    if name == "internal":
        _log.error("unexpected", caller=client, incident=incident, exc_info=error)
    else:
        _log.warning("refused", caller=client, reason=status.details)
    trailing = dict(status.trailing)
    return search_pb2.SearchRefusal(
        code=code,
        text=status.details,
        error=trailing.get(ERROR_KEY, ""),
        hint=trailing.get(HINT_KEY, ""),
        retry_after_ms=int(trailing.get(PUSHBACK_KEY, "0")),
    )
