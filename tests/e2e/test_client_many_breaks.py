"""What many searches do when the call breaks before all of them are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import grpc
import pytest

from tests.e2e.people import people
from underseal_client import AsyncClient, Client, ClientSettings, Gallery, Sought
from underseal_client.asking import Timings
from underseal_client.many import Item, ManySearches
from underseal_client.many_call import ManyCall
from underseal_client.search import wanted
from underseal_core.errors import Busy
from underseal_core.statements import Targets
from underseal_proto.v1 import search_pb2, search_pb2_grpc

COUNT = 60
"""Requests of 70 KB: more than a connection takes from a server that reads one."""


class Breaking(search_pb2_grpc.SearchServiceServicer):
    """Reads one request, then goes away; or refuses this one, and is silent until ``released``."""

    def __init__(self, *, silent: bool) -> None:
        self.released = Event()
        self._silent = silent

    def Search(  # noqa: N802
        self, request: search_pb2.SearchRequest, context: grpc.ServicerContext
    ) -> Iterator[search_pb2.SearchResponse]:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "only many")
        yield from ()

    def SearchMany(  # noqa: N802
        self,
        request_iterator: Iterator[search_pb2.SearchManyRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[search_pb2.SearchManyResponse]:
        next(request_iterator)
        context.add_callback(self.released.set)
        if not self._silent:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        refusal = search_pb2.SearchRefusal(text="not now", error="NotFound", hint="never")
        yield search_pb2.SearchManyResponse(index=0, refusal=refusal)
        self.released.wait(60)


@pytest.fixture
def stub(request: pytest.FixtureRequest) -> Iterator[tuple[Breaking, object]]:
    servicer = Breaking(silent=request.param == "is silent")
    server = grpc.server(ThreadPoolExecutor(4))
    search_pb2_grpc.add_SearchServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield servicer, search_pb2_grpc.SearchServiceStub(channel)
    server.stop(0).wait()


class Ready(ManySearches):
    """Searches with one probe, which is encrypted already."""

    given = b""

    def probe(self, item: Item) -> tuple[bytes, Timings]:
        return self.given, Timings()


@pytest.mark.parametrize("stub", ["goes away"], indirect=True)
def test_a_call_that_breaks_gives_back_what_it_did_not_come_to(
    client: Client,
    gallery: Gallery,
    stub: tuple[Breaking, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = client._context
    monkeypatch.setitem(vars(context.connection), "searches", stub[1])
    searches = Ready(context, gallery, wanted(10, None), Targets())
    (someone,) = people(1, seed=71)
    searches.given = context.encryptor.encrypt_probe(someone.vector).to_bytes()
    items = [Item(i, Sought(someone.vector, "tests", "T-1")) for i in range(COUNT)]
    call = ManyCall(searches, items, iter(()))
    assert isinstance(call.run(), Busy)
    assert len(call._sent) < COUNT, "everything was sent: this shows nothing"
    assert sorted(item.index for item in call.again) == list(range(COUNT))


@pytest.mark.parametrize("stub", ["is silent"], indirect=True)
def test_closing_ends_a_call_that_the_server_does_not_answer(
    client: Client,
    gallery: Gallery,
    stub: tuple[Breaking, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(vars(client._context.connection), "searches", stub[1])
    (someone,) = people(1, seed=72)
    asked = [Sought(someone.vector, "tests", "T-1")] * 2
    answers = client.search_many(iter(asked), gallery=gallery.name)
    refused = next(answers)
    assert (str(refused.error), refused.index) == ("not now", 0)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(answers.close).result(30)
    assert stub[0].released.wait(30)


@pytest.mark.parametrize("stub", ["is silent"], indirect=True)
def test_a_task_that_is_cancelled_stops_waiting(
    settings: ClientSettings,
    gallery: Gallery,
    stub: tuple[Breaking, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (someone,) = people(1, seed=73)

    async def ask(client: AsyncClient, first: asyncio.Event) -> None:
        asked = [Sought(someone.vector, "tests", "T-1")] * 2
        async for _ in client.search_many(asked, gallery=gallery.name):
            first.set()

    async def main() -> None:
        async with AsyncClient(settings) as client:
            connection = client._client._context.connection
            monkeypatch.setitem(vars(connection), "searches", stub[1])
            first = asyncio.Event()
            task = asyncio.create_task(ask(client, first))
            async with asyncio.timeout(30):
                await first.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            stub[0].released.set()

    asyncio.run(main())
