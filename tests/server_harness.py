"""A real server on loopback with mutual TLS, and a bare caller that can also misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import grpc

from tests.plain_form import unit_digest
from tests.server_fixtures import Lab, Vectors, labelled
from underseal_core.credentials import Credentials, Role
from underseal_core.gallery.unit import Shape
from underseal_core.provenance import Enrolled, EnrolReceipt, template_leaf
from underseal_core.rpc.status import from_rpc_error
from underseal_core.rpc.tls import open_channel, own_peer
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext
from underseal_core.signing import Envelope, Identity
from underseal_core.statements import (
    SearchRequest,
    SearchResult,
    Targets,
    Wanted,
    utc_text,
)
from underseal_proto.v1 import gallery_pb2, gallery_pb2_grpc, search_pb2, search_pb2_grpc
from underseal_server.api.serving import Running, running
from underseal_server.pki import Authority, issue
from underseal_server.settings import Settings
from underseal_server.store.records import NewTemplate
from underseal_server.store.store import utc_now
from underseal_server.wire import envelope_from_wire, envelope_to_wire, pin_to_wire

ROW = gallery_pb2.UnitBegin.SHAPE_ROW
COLUMNS = gallery_pb2.UnitBegin.SHAPE_COLUMNS
TIMEOUT = 60.0
T = TypeVar("T")


def make_credentials(root: Path) -> Path:
    """Credentials folders for every kind of caller: good, expired and foreign."""
    authority = Authority.create()
    issue(authority, root / "server", Role.SERVER, "server")
    for name in ("agency", "other"):
        issue(authority, root / name, Role.CLIENT, name)
    issue(authority, root / "auditor", Role.AUDITOR, "auditor")
    issue(authority, root / "operator", Role.OPERATOR, "operator")
    issue(authority, root / "expired", Role.CLIENT, "agency", lifetime=timedelta(days=-1))
    issue(Authority.create(), root / "foreign", Role.CLIENT, "agency")
    return root


LOOPS: dict[int, asyncio.AbstractEventLoop] = {}
"""Of the servers that run in this process, by port."""


def inside(server: Running, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a server's event loop."""
    return asyncio.run_coroutine_threadsafe(work, LOOPS[server.port]).result(TIMEOUT)


@contextmanager
def serving(settings: Settings, now: Callable[[], datetime] = utc_now) -> Iterator[Running]:
    """Run a server in a thread of this process."""
    started: list[Running] = []
    failed: list[BaseException] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        try:
            async with running(settings, now) as server:
                started.append(server)
                LOOPS[server.port] = loop
                ready.set()
                await stop.wait()
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            ready.set()

    def run() -> None:
        try:
            loop.run_until_complete(main())
        except BaseException as error:  # noqa: BLE001
            failed.append(error)
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    if not started:
        thread.join()
        raise failed[0]
    try:
        yield started[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
    if failed:
        raise failed[0]


@dataclass(frozen=True)
class Found:
    """Everything a search answered."""

    result: SearchResult
    envelope: Envelope
    blocks: dict[int, bytes]
    norm: bytes
    progress: tuple[search_pb2.SearchProgress, ...]


@dataclass
class Caller:
    """Calls a server with one participant's credentials; raises our errors."""

    channel: grpc.Channel
    credentials: Credentials
    lab: Lab = field(default_factory=Lab)

    @property
    def name(self) -> str:
        return own_peer(self.credentials).name

    @property
    def galleries(self) -> Any:
        return _Translated(gallery_pb2_grpc.GalleryServiceStub(self.channel))

    @property
    def searches(self) -> Any:
        return _Translated(search_pb2_grpc.SearchServiceStub(self.channel))

    def create(self, name: str = "missing", **fields: Any) -> gallery_pb2.Gallery:
        pin = fields.pop("pin", pin_to_wire(self.lab.pin))
        request = gallery_pb2.CreateGalleryRequest(name=name, pin=pin, **fields)
        gallery: gallery_pb2.Gallery = self.galleries.CreateGallery(request).gallery
        return gallery

    def state(self, name: str = "missing") -> gallery_pb2.Gallery:
        request = gallery_pb2.GetGalleryRequest(name=name)
        gallery: gallery_pb2.Gallery = self.galleries.GetGallery(request).gallery
        return gallery

    def header(self, name: str = "missing", **changes: Any) -> gallery_pb2.EnrolRequest:
        pin = pin_to_wire(self.lab.pin.model_copy(update=changes))
        header = gallery_pb2.EnrolHeader(
            gallery=name, pin=pin, answer_when=gallery_pb2.UNIT_STATE_ACTIVE
        )
        return gallery_pb2.EnrolRequest(header=header)

    def stream(self, parts: Iterable[gallery_pb2.EnrolRequest]) -> list[gallery_pb2.EnrolResponse]:
        return list(self.galleries.Enrol(iter(parts)))

    def enrol(
        self,
        vectors: Vectors,
        shape: Shape = Shape.ROW,
        templates: list[NewTemplate] | None = None,
        name: str = "missing",
        **changes: Any,
    ) -> tuple[list[NewTemplate], gallery_pb2.EnrolResponse]:
        """Enrol one unit; ``changes`` of its receipt."""
        made = templates or labelled(len(vectors))
        unit = unit_parts(made, ciphertexts(self.lab, vectors, shape), shape)
        parts = [self.header(name), *self.signed(unit, name, **changes)]
        (receipt,) = self.stream(parts)
        return made, receipt

    def signed(
        self, unit: list[gallery_pb2.EnrolRequest], name: str = "missing", **changes: Any
    ) -> list[gallery_pb2.EnrolRequest]:
        """The unit with its receipt; ``changes`` make it one of something else."""
        receipt = self.receipt(unit, name).model_copy(update=changes)
        envelope = envelope_to_wire(receipt.sign(self.credentials.identity))
        return [*unit, gallery_pb2.EnrolRequest(receipt=envelope)]

    def receipt(self, unit: list[gallery_pb2.EnrolRequest], name: str = "missing") -> EnrolReceipt:
        """What this caller signs for a unit."""
        begin = unit[0].begin
        leaves = [
            template_leaf(
                entry.template_id, entry.subject_id, hashlib.sha256(entry.sealed_label).digest()
            )
            for part in unit
            for entry in part.templates.templates
        ]
        shape = Shape.ROW if begin.shape == ROW else Shape.COLUMNS
        sha256 = unit_digest(part.ciphertext for part in unit if part.ciphertext)
        enrolled = Enrolled(name, self.lab.pin, begin.token, shape, leaves, sha256)
        return enrolled.receipt(self.name, utc_text(datetime.now(UTC)))

    def request(self, probe: bytes, name: str = "missing", **changes: Any) -> SearchRequest:
        now = datetime.now(UTC)
        fields: dict[str, Any] = {
            "request_id": secrets.token_hex(16),
            "client": self.name,
            "gallery": name,
            "pin": self.lab.pin,
            "probe_sha256": hashlib.sha256(probe).hexdigest(),
            "purpose": "missing-person",
            "case_reference": "case 7",
            "wanted": Wanted(top_k=3),
            "issued_at": utc_text(now),
            "expires_at": utc_text(now + timedelta(minutes=10)),
        }
        return SearchRequest(**{**fields, **changes})

    def message(
        self, request: SearchRequest, probe: bytes, identity: Identity | None = None
    ) -> search_pb2.SearchRequest:
        envelope = envelope_to_wire(request.sign(identity or self.credentials.identity))
        return search_pb2.SearchRequest(request=envelope, probe=probe)

    def ask(self, request: SearchRequest, probe: bytes, identity: Identity | None = None) -> Found:
        call = self.searches.Search(self.message(request, probe, identity))
        return collect(part for answer in call for part in answer.parts)

    def ask_many(
        self, messages: Iterable[search_pb2.SearchRequest]
    ) -> dict[int, Found | search_pb2.SearchRefusal]:
        """Ask together; what came of each, by its number."""
        wrapped = (search_pb2.SearchManyRequest(search=message) for message in messages)
        parts: dict[int, list[search_pb2.SearchPart]] = {}
        ended: dict[int, Found | search_pb2.SearchRefusal] = {}
        for answer in self.searches.SearchMany(wrapped):
            assert answer.index not in ended
            if answer.WhichOneof("answer") == "refusal":
                ended[answer.index] = answer.refusal
                parts.pop(answer.index, None)
                continue
            parts.setdefault(answer.index, []).extend(answer.found.parts)
            if parts[answer.index][-1].WhichOneof("part") == "result":
                ended[answer.index] = collect(parts.pop(answer.index))
        assert not parts
        return ended

    def search(self, vector: Vectors, name: str = "missing", **changes: Any) -> Found:
        probe = self.lab.probe(vector).to_bytes()
        return self.ask(self.request(probe, name, **changes), probe)

    def scores(self, found: Found) -> dict[int, Vectors]:
        profile = self.lab.bundle.profile
        return {
            block: self.lab.open(parse_ciphertext(data, profile, Kind.RESULT))
            for block, data in found.blocks.items()
        }


class _Translated:
    """A stub whose failures are our errors, whether a call answers once or streams."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def __getattr__(self, method: str) -> Callable[[Any], Any]:
        call = getattr(self._stub, method)

        def translated(request: Any) -> Any:
            try:
                answer = call(request, timeout=TIMEOUT)
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error
            return _stream(answer) if isinstance(answer, grpc.Call) else answer

        return translated


def _stream(call: Any) -> Iterator[Any]:
    try:
        yield from call
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error


def ciphertexts(lab: Lab, vectors: Vectors, shape: Shape) -> list[Ciphertext]:
    """Encrypt a unit."""
    return [lab.row(vectors)] if shape is Shape.ROW else lab.columns(vectors)


def unit_parts(
    templates: list[NewTemplate],
    sealed: Iterable[Ciphertext | bytes],
    shape: Shape = Shape.ROW,
    token: bytes | None = None,
    announced: int | None = None,
) -> list[gallery_pb2.EnrolRequest]:
    """Messages of one unit, in the right order; without receipt, see `Caller.signed`."""
    begin = gallery_pb2.UnitBegin(
        token=token or secrets.token_bytes(16),
        shape=ROW if shape is Shape.ROW else COLUMNS,
        templates=len(templates) if announced is None else announced,
    )
    parts = [gallery_pb2.EnrolRequest(begin=begin)]
    for start in range(0, len(templates), 1000):
        batch = [
            gallery_pb2.NewTemplate(
                template_id=template.template_id,
                subject_id=template.subject_id,
                sealed_label=template.sealed_label,
            )
            for template in templates[start : start + 1000]
        ]
        parts.append(gallery_pb2.EnrolRequest(templates=gallery_pb2.TemplateBatch(templates=batch)))
    for entry in sealed:
        data = entry if isinstance(entry, bytes) else entry.to_bytes()
        parts.append(gallery_pb2.EnrolRequest(ciphertext=data))
    return parts


def collect(parts: Iterable[search_pb2.SearchPart]) -> Found:
    """Read a search's stream to its end."""
    progress, blocks, other = [], {}, {}
    envelope = None
    for part in parts:
        match part.WhichOneof("part"):
            case "progress":
                progress.append(part.progress)
            case "sealed" if part.sealed.kind == search_pb2.SealedCiphertext.KIND_RESULT:
                blocks[part.sealed.block] = part.sealed.ciphertext
            case "sealed":
                other[part.sealed.kind] = part.sealed.ciphertext
            case _:
                envelope = envelope_from_wire(part.result)
    assert envelope is not None
    return Found(
        SearchResult.parse(envelope.payload),
        envelope,
        blocks,
        other[search_pb2.SealedCiphertext.KIND_NORM],
        tuple(progress),
    )


def targets(*template_ids: bytes, subject: bytes = b"") -> Targets:
    """Name what to compare with."""
    return Targets(
        template_ids=tuple(entry.hex() for entry in template_ids),
        subject_ids=(subject.hex(),) if subject else (),
    )


@contextmanager
def calling(port: int, folder: Path, lab: Lab | None = None) -> Iterator[Caller]:
    """Open a channel as the participant whose credentials are in ``folder``."""
    credentials = Credentials.load(folder)
    with open_channel(f"127.0.0.1:{port}", credentials) as channel:
        yield Caller(channel, credentials, lab or Lab())
