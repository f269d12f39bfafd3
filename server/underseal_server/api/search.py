"""SearchService: encrypted comparison."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from importlib.metadata import version
from typing import Final

from underseal_core.credentials import Peer
from underseal_core.rpc.access import Context, current_peer
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext
from underseal_core.signing import Envelope, Identity
from underseal_core.statements import (
    BlockTiles,
    ResultBlock,
    SearchRequest,
    SearchResult,
    Snapshot,
    utc_text,
)
from underseal_proto.v1 import search_pb2, search_pb2_grpc
from underseal_server import wire
from underseal_server.api.together import Answer, Together
from underseal_server.engine.enrolled import EnrolledProbes
from underseal_server.engine.hosted import Hosted
from underseal_server.engine.hosting import Hosting
from underseal_server.engine.job import Asked, Event, Job, Outcome, Progress, SealedBlock
from underseal_server.engine.places import PerClient
from underseal_server.engine.search import SearchEngine
from underseal_server.engine.threads import Threads, finish
from underseal_server.engine.unread import Unread
from underseal_server.pins import check_pin
from underseal_server.signed_requests import (
    check_not_expired,
    gallery_named,
    open_request,
    remembered_until,
)
from underseal_server.store.requests import Requests

CODE_VERSION: Final = f"underseal {version('underseal')}"
_KINDS: Final = search_pb2.SealedCiphertext


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    """See ``search.proto``. The guard has admitted the caller's role.

    Parameters
    ----------
    hosting, engine, enrolled, requests, threads, unread
        What a search needs.
    single, many
        How many searches one client may have under way, in calls of their own and in all of its
        calls for many.
    name, identity
        Of this server: it signs the results.
    now
        The clock.
    """

    def __init__(
        self,
        hosting: Hosting,
        engine: SearchEngine,
        enrolled: EnrolledProbes,
        requests: Requests,
        threads: Threads,
        unread: Unread,
        single: PerClient,
        many: PerClient,
        name: str,
        identity: Identity,
        now: Callable[[], datetime],
    ) -> None:
        self._hosting = hosting
        self._engine = engine
        self._enrolled = enrolled
        self._requests = requests
        self._threads = threads
        self._unread = unread
        self._single = single
        self._many = many
        self._name = name
        self._identity = identity
        self._now = now

    async def Search(  # noqa: N802
        self, request: search_pb2.SearchRequest, context: Context
    ) -> AsyncIterator[search_pb2.SearchResponse]:
        """Compare with every live template, or with those that the signed request asks for."""
        with self._single.hold(current_peer().name):
            answer = self._answer(request, _deadline(context), patient=False)
            async with aclosing(answer):
                async for some in answer:
                    yield some

    async def SearchMany(  # noqa: N802
        self, request_iterator: AsyncIterator[search_pb2.SearchManyRequest], context: Context
    ) -> AsyncIterator[search_pb2.SearchManyResponse]:
        """Answer many requests, each as ``Search`` would."""
        deadline = _deadline(context)

        def answer(request: search_pb2.SearchRequest) -> Answer:
            return self._answer(request, deadline, patient=True)

        together = Together(request_iterator, current_peer(), self._many, answer)
        async with aclosing(together.answers()) as answers:
            async for some in answers:
                yield some

    async def _answer(
        self, message: search_pb2.SearchRequest, deadline: float, *, patient: bool
    ) -> Answer:
        peer, probe = current_peer(), message.probe
        envelope = wire.envelope_from_wire(message.request)
        if not patient:
            self._ask(peer, envelope, deadline)
        request = open_request(envelope, peer, probe, self._now())
        hosted = await self._hosting.open(request.gallery)
        check_pin(request.pin, hosted.gallery.spec.pin)
        asked = Asked(
            peer.name,
            hosted,
            request.targets,
            self._probe(hosted, request, probe),
            lambda: self._claim(request, peer),
            patient,
            deadline,
        )
        sha256 = envelope.payload_sha256()
        async with aclosing(self._engine.search(Job(asked, self._unread))) as events:
            async for some in events:
                response = search_pb2.SearchResponse()
                for event in some:
                    self._add(response, request, sha256, event)
                yield response

    def _ask(self, peer: Peer, envelope: Envelope, deadline: float) -> None:
        """Turn away at once what would not be computed even if it is good: checks take time."""
        hosted = self._hosting.opened(gallery_named(envelope))
        if hosted is not None:
            self._engine.ask(peer.name, hosted, deadline)

    def _probe(
        self, hosted: Hosted, request: SearchRequest, probe: bytes
    ) -> Callable[[], Awaitable[Ciphertext]]:
        """Return what gives the probe; one that came with the request is checked at once."""
        if request.probe_template:
            return lambda: self._enrolled.probe(hosted, request)
        row = parse_ciphertext(probe, hosted.gallery.profile, Kind.PROBE_ROW)

        async def parsed() -> Ciphertext:
            return row

        return parsed

    async def _claim(self, request: SearchRequest, peer: Peer) -> None:
        """Use up the request's id; too late is too late, also for who has waited."""
        now = self._now()
        check_not_expired(request, now)
        until, claim = remembered_until(request), self._requests.claim
        pool = self._threads.store
        await finish(pool, claim, request.request_id, peer.name, until, utc_text(now))

    def _add(
        self,
        response: search_pb2.SearchResponse,
        request: SearchRequest,
        sha256: str,
        event: Event,
    ) -> None:
        """Add what is sent of an event; of the outcome, the probe's norm and the result."""
        match event:
            case Progress():
                wire.add_progress(response, event)
            case SealedBlock(block, sealed):
                wire.add_sealed(response, _KINDS.KIND_RESULT, block, sealed.data)
            case Outcome(norm=norm):
                envelope = self._statement(request, sha256, event).sign(self._identity)
                wire.add_sealed(response, _KINDS.KIND_NORM, 0, norm.data)
                response.parts.add(result=wire.envelope_to_wire(envelope))

    def _statement(self, request: SearchRequest, sha256: str, outcome: Outcome) -> SearchResult:
        view = outcome.view
        return SearchResult(
            request_sha256=sha256,
            server=self._name,
            snapshot=Snapshot(
                gallery=request.gallery,
                version=view.version,
                root=view.root,
                templates=view.templates,
                blocks=tuple(
                    BlockTiles(block=block, tiles_root=root) for block, root in view.blocks.items()
                ),
            ),
            blocks=tuple(
                ResultBlock(block=block, sha256=named) for block, named in outcome.blocks.items()
            ),
            norm_sha256=outcome.norm.sha256,
            compared=outcome.compared,
            code_version=CODE_VERSION,
            finished_at=utc_text(self._now()),
        )


def _deadline(context: Context) -> float:
    """Return until when the caller waits, by :func:`time.monotonic`."""
    left = context.time_remaining()
    return math.inf if left is None else time.monotonic() + left
