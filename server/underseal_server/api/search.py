"""SearchService: encrypted comparison."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime
from importlib.metadata import version
from typing import Final

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
from underseal_server.engine.enrolled import EnrolledProbes
from underseal_server.engine.hosted import Hosted
from underseal_server.engine.hosting import Hosting
from underseal_server.engine.search import Outcome, Progress, SealedBlock, SearchEngine
from underseal_server.engine.threads import Threads, finish
from underseal_server.pins import check_pin
from underseal_server.signed_requests import open_request, remembered_until
from underseal_server.store.requests import Requests

CODE_VERSION: Final = f"underseal {version('underseal')}"
_KINDS: Final = search_pb2.SealedCiphertext


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    """See ``search.proto``. The guard has admitted the caller's role.

    Parameters
    ----------
    hosting, engine, enrolled, requests, threads
        What a search needs.
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
        name: str,
        identity: Identity,
        now: Callable[[], datetime],
    ) -> None:
        self._hosting = hosting
        self._engine = engine
        self._enrolled = enrolled
        self._requests = requests
        self._threads = threads
        self._name = name
        self._identity = identity
        self._now = now

    async def Search(  # noqa: N802
        self, request: search_pb2.SearchRequest, context: Context
    ) -> AsyncIterator[search_pb2.SearchResponse]:
        """Compare with every live template, or with those that the signed request asks for."""
        envelope = wire.envelope_from_wire(request.request)
        async with aclosing(self._parts(envelope, request.probe)) as parts:
            async for part in parts:
                yield search_pb2.SearchResponse(part=part)

    async def _parts(
        self, envelope: Envelope, probe: bytes
    ) -> AsyncGenerator[search_pb2.SearchPart, None]:
        peer = current_peer()
        request = open_request(envelope, peer, probe, self._now())
        hosted, row = await self._checked(request, probe)
        with self._engine.admission.enter(peer.name) as ticket:
            until, now = remembered_until(request), utc_text(self._now())
            claim = self._requests.claim
            await finish(self._threads.store, claim, request.request_id, peer.name, until, now)
            run = self._engine.run(ticket, hosted, row, request.targets)
            async with aclosing(run) as events:
                async for event in events:
                    match event:
                        case Progress():
                            yield wire.progress_to_wire(event)
                        case SealedBlock(block, sealed):
                            yield wire.sealed_to_wire(_KINDS.KIND_RESULT, block, sealed.data)
                        case Outcome():
                            for part in self._closing(request, event):
                                yield part

    async def _checked(self, request: SearchRequest, probe: bytes) -> tuple[Hosted, Ciphertext]:
        hosted = await self._hosting.open(request.gallery)
        check_pin(request.pin, hosted.gallery.spec.pin)
        if request.probe_template:
            return hosted, await self._enrolled.probe(hosted, request)
        return hosted, parse_ciphertext(probe, hosted.gallery.profile, Kind.PROBE_ROW)

    def _closing(self, request: SearchRequest, outcome: Outcome) -> list[search_pb2.SearchPart]:
        """Return the probe's checks and the signed result."""
        probe = outcome.probe
        envelope = self._statement(request, outcome).sign(self._identity)
        return [
            wire.sealed_to_wire(_KINDS.KIND_NORM, 0, probe.norm.data),
            wire.sealed_to_wire(_KINDS.KIND_PROJECTION, 0, probe.projection.data),
            search_pb2.SearchPart(result=wire.envelope_to_wire(envelope)),
        ]

    def _statement(self, request: SearchRequest, outcome: Outcome) -> SearchResult:
        view = outcome.view
        return SearchResult(
            request_sha256=request.sha256(),
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
                ResultBlock(block=entry.block, sha256=entry.sealed.sha256)
                for entry in outcome.blocks
            ),
            norm_sha256=outcome.probe.norm.sha256,
            projection_sha256=outcome.probe.projection.sha256,
            compared=outcome.compared,
            code_version=CODE_VERSION,
            finished_at=utc_text(self._now()),
        )
