"""Bad input gets a clear public error with the right class, and nothing stored changes."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.server_fixtures import Lab, labelled, unit_vectors
from tests.server_harness import (
    Caller,
    calling,
    ciphertexts,
    make_credentials,
    serving,
    targets,
    unit_parts,
)
from underseal_core.credentials import Credentials
from underseal_core.errors import (
    Busy,
    Conflict,
    InvalidInput,
    MalformedCiphertext,
    Mismatch,
    NotFound,
    PermissionRefused,
    UndersealError,
)
from underseal_core.gallery.unit import Shape
from underseal_core.rpc.status import from_rpc_error
from underseal_core.scheme.ciphertext import HEADER_BYTES
from underseal_core.signing import Identity
from underseal_proto.v1 import gallery_pb2, gallery_pb2_grpc
from underseal_server.settings import Settings
from underseal_server.wire import pin_to_wire

LAB = Lab()
VECTORS = unit_vectors(3)
TEMPLATES = labelled(3)


class World:
    """One server with one gallery of three templates, and everybody who calls it."""

    def __init__(self, data: Path, credentials: Path, port: int, people: dict[str, Caller]) -> None:
        self.data = data
        self.credentials = credentials
        self.port = port
        self.people = people
        self.agency = people["agency"]

    def stored(self) -> tuple[str, list[tuple[str, str]]]:
        """Everything on disk that a change would show in."""
        with contextlib.closing(sqlite3.connect(self.data / "catalogue.sqlite")) as connection:
            rows = [
                connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
                for table in ("galleries", "writers", "units", "templates")
            ]
        files = [
            (str(path.relative_to(self.data)), hashlib.sha256(path.read_bytes()).hexdigest())
            for part in ("units", "blocks")
            for path in sorted((self.data / part).rglob("*"))
            if path.is_file()
        ]
        return repr(rows), files


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("world")
    credentials = make_credentials(root / "credentials")
    LAB.bundle.save(root / "bundle.usb")
    settings = Settings(
        listen="127.0.0.1:0",
        data=root / "data",
        credentials=credentials / "server",
        bundles=(root / "bundle.usb",),
        threads=1,
        save_seconds=3600,
    )
    with serving(settings) as server, ExitStack() as stack:
        people = {
            name: stack.enter_context(calling(server.port, credentials / name))
            for name in ("agency", "other", "auditor", "operator")
        }
        made = World(root / "data", credentials, server.port, people)
        made.agency.create()
        made.agency.enrol(VECTORS, templates=TEMPLATES)
        yield made


def row() -> bytes:
    return ciphertexts(LAB, VECTORS[:1], Shape.ROW)[0].to_bytes()


def changed(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


BAD_CIPHERTEXTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-1],
    "oversized": lambda data: data + b"\0",
    "magic": lambda data: changed(data, 0, b"XXXX"),
    "other profile": lambda data: changed(data, 4, b"\1"),
    "other kind": lambda data: changed(data, 5, b"\4"),
    "three components": lambda data: changed(data, 6, b"\3"),
    "other level": lambda data: changed(data, 7, b"\2"),
    "residue above its prime": lambda data: changed(data, HEADER_BYTES, b"\xff" * 4),
    "residue equal to its prime": lambda data: changed(
        data, HEADER_BYTES, LAB.bundle.profile.data_primes[0].to_bytes(4, "little")
    ),
}


@pytest.mark.parametrize("name", BAD_CIPHERTEXTS)
def test_a_malformed_row_is_refused(world: World, name: str) -> None:
    before = world.stored()
    bad = BAD_CIPHERTEXTS[name](row())
    with pytest.raises(MalformedCiphertext):
        world.agency.stream([world.agency.header(), *unit_parts(labelled(1), [bad])])
    assert world.stored() == before


@pytest.mark.parametrize("name", BAD_CIPHERTEXTS)
def test_a_malformed_column_is_refused_wherever_it_comes(world: World, name: str) -> None:
    before = world.stored()
    columns: list[Any] = ciphertexts(LAB, VECTORS, Shape.COLUMNS)
    columns[-1] = BAD_CIPHERTEXTS[name](columns[-1].to_bytes())
    if columns[-1][6:8] == b"\2\2":  # a column's own level: take the row's
        columns[-1] = changed(columns[-1], 7, b"\3")
    parts = unit_parts(labelled(3), columns, Shape.COLUMNS)
    with pytest.raises(MalformedCiphertext):
        world.agency.stream([world.agency.header(), *parts])
    assert world.stored() == before


@pytest.mark.parametrize("name", BAD_CIPHERTEXTS)
def test_a_malformed_probe_is_refused(world: World, name: str) -> None:
    before = world.stored()
    bad = BAD_CIPHERTEXTS[name](LAB.probe(VECTORS[0]).to_bytes())
    with pytest.raises(MalformedCiphertext):
        world.agency.ask(world.agency.request(bad), bad)
    assert world.stored() == before


def test_a_template_is_no_probe_and_a_probe_no_template(world: World) -> None:
    template = row()
    with pytest.raises(MalformedCiphertext, match="not a probe_row"):
        world.agency.ask(world.agency.request(template), template)
    probe = LAB.probe(VECTORS[0]).to_bytes()
    with pytest.raises(MalformedCiphertext, match="not a template_row"):
        world.agency.stream([world.agency.header(), *unit_parts(labelled(1), [probe])])


def test_a_message_beyond_the_limit_is_refused(world: World) -> None:
    before = world.stored()
    with pytest.raises(InvalidInput, match="larger"):
        world.agency.stream([world.agency.header(), *unit_parts(labelled(1), [bytes(5 << 20)])])
    # gRPC refuses the message by itself; the call's own end, which removes the upload, may follow.
    deadline = time.monotonic() + 30
    while world.stored() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert world.stored() == before


WRONG_PINS: dict[str, dict[str, Any]] = {
    "model": {"model_id": "other-model"},
    "dimension": {"model_dimension": 7},
    "profile": {"profile": "guarded"},
    "key epoch": {"key_epoch": "0" * 64},
}


@pytest.mark.parametrize("what", WRONG_PINS)
def test_what_is_pinned_to_something_else_is_refused(world: World, what: str) -> None:
    before = world.stored()
    with pytest.raises(Mismatch, match=f"the gallery's {what} is"):
        world.agency.stream(
            [world.agency.header(**WRONG_PINS[what]), *unit_parts(labelled(1), [row()])]
        )
    with pytest.raises(Mismatch, match=f"the gallery's {what} is"):
        world.agency.search(VECTORS[0], pin=LAB.pin.model_copy(update=WRONG_PINS[what]))
    assert world.stored() == before


@pytest.mark.parametrize(
    ("changes", "expected", "text"),
    [
        ({"key_epoch": "0" * 64}, Mismatch, "no bundle"),
        ({"profile": "guarded"}, Mismatch, "profile is swift"),
        ({"model_dimension": 100}, Mismatch, "dimension is 8"),
        ({"model_dimension": 1025}, InvalidInput, "dimension 1025 is outside"),
        ({"model_id": ""}, InvalidInput, "model_id"),
        ({"key_epoch": "zz"}, InvalidInput, "key_epoch"),
    ],
)
def test_a_gallery_that_cannot_work_is_not_created(
    world: World, changes: dict[str, Any], expected: type[UndersealError], text: str
) -> None:
    before = world.stored()
    pin = pin_to_wire(LAB.pin)
    for name, value in changes.items():
        setattr(pin, name, value)
    with pytest.raises(expected, match=text):
        world.agency.create("new", pin=pin)
    with pytest.raises(InvalidInput, match="not a valid gallery name"):
        world.agency.create("../etc")
    with pytest.raises(Conflict, match="other settings"):
        world.agency.create(max_templates_per_subject=1)
    assert world.stored() == before


def test_unknown_galleries_templates_and_subjects_are_not_found(world: World) -> None:
    before, agency = world.stored(), world.agency
    remove = gallery_pb2.RemoveTemplatesRequest
    with pytest.raises(NotFound, match="no gallery nowhere"):
        agency.state("nowhere")
    with pytest.raises(NotFound, match="no gallery nowhere"):
        agency.search(VECTORS[0], name="nowhere")
    with pytest.raises(NotFound, match="no gallery nowhere"):
        agency.enrol(VECTORS[:1], name="nowhere")
    known, unknown = TEMPLATES[0].template_id, secrets.token_bytes(16)
    with pytest.raises(NotFound, match="no template"):
        agency.galleries.RemoveTemplates(remove(gallery="missing", template_ids=[known, unknown]))
    with pytest.raises(NotFound, match="of this subject"):
        agency.galleries.RemoveTemplates(remove(gallery="missing", subject_id=unknown))
    with pytest.raises(NotFound):
        agency.search(VECTORS[0], targets=targets(known, unknown))
    with pytest.raises(InvalidInput, match="16 bytes"):
        agency.galleries.RemoveTemplates(remove(gallery="missing", template_ids=[b"short"]))
    with pytest.raises(InvalidInput, match="either templates or a subject"):
        agency.galleries.RemoveTemplates(remove(gallery="missing"))
    assert world.stored() == before


def test_a_request_id_is_answered_once(world: World) -> None:
    probe = LAB.probe(VECTORS[0]).to_bytes()
    request = world.agency.request(probe)
    world.agency.ask(request, probe)
    with pytest.raises(Conflict, match="duplicate request id"):
        world.agency.ask(request, probe)
    other = request.model_copy(update={"purpose": "something-else"})
    with pytest.raises(Conflict, match="duplicate request id"):
        world.agency.ask(other, probe)


def test_a_request_of_somebody_else_is_refused(world: World) -> None:
    agency, other = world.agency, world.people["other"]
    probe = LAB.probe(VECTORS[0]).to_bytes()
    with pytest.raises(PermissionRefused, match="not signed"):
        other.ask(agency.request(probe), probe, agency.credentials.identity)
    with pytest.raises(PermissionRefused, match="another client's name"):
        other.ask(agency.request(probe), probe)
    with pytest.raises(PermissionRefused, match="not signed"):
        agency.ask(agency.request(probe), probe, Identity.generate())
    with pytest.raises(InvalidInput, match="another probe"):
        agency.ask(agency.request(probe), LAB.probe(VECTORS[1]).to_bytes())


BAD_STREAMS: dict[str, tuple[Callable[[list[Any]], list[Any]], str]] = {
    "no header": (lambda parts: parts[1:], "begins with its header"),
    "no unit": (lambda parts: [parts[0], parts[3]], "begins with its token"),
    "ciphertext before templates": (lambda p: [p[0], p[1], p[3]], "templates are due"),
    "cut within the unit": (lambda parts: parts[:3], "ended within a unit"),
    "no receipt": (lambda parts: parts[:4], "ended within a unit"),
    "one ciphertext too many": (lambda p: [*p[:4], p[3], p[4]], "receipt are due"),
    "one receipt too many": (lambda parts: [*parts, parts[4]], "begins with its token"),
}


@pytest.mark.parametrize("name", BAD_STREAMS)
def test_a_stream_out_of_order_is_refused(world: World, name: str) -> None:
    change, text = BAD_STREAMS[name]
    templates = labelled(1)
    unit = world.agency.signed(unit_parts(templates, [row()]))
    parts = change([world.agency.header(), *unit])
    before = world.stored()
    with pytest.raises(InvalidInput, match=text):
        world.agency.stream(parts)
    if name == "one receipt too many":  # the unit before it was complete, and is stored
        ids = [template.template_id for template in templates]
        world.agency.galleries.RemoveTemplates(
            gallery_pb2.RemoveTemplatesRequest(gallery="missing", template_ids=ids)
        )
    else:
        assert world.stored() == before


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ({"announced": 0}, "1 to 504 templates"),
        ({"announced": 505}, "1 to 504 templates"),
        ({"announced": 2}, "templates are due"),
        ({"token": b"short"}, "token has 16 bytes"),
        ({"templates": [replace(labelled(1)[0], template_id=b"x")]}, "template id has 16 bytes"),
        ({"templates": [replace(labelled(1)[0], sealed_label=b"")]}, "sealed label has 1 to"),
        ({"templates": [replace(labelled(1)[0], sealed_label=bytes(9000))]}, "sealed label has"),
        ({"templates": labelled(1) * 2}, "occurs twice"),
        ({"templates": labelled(9, [b"s" * 16] * 9)}, "more than 8 templates"),
    ],
)
def test_a_bad_unit_is_refused(world: World, unit: dict[str, Any], text: str) -> None:
    before = world.stored()
    fields = {"templates": labelled(1), **unit}
    parts = unit_parts(fields.pop("templates"), [row()], **fields)
    if text.startswith("more than"):
        parts = world.agency.signed(parts)
    with pytest.raises(InvalidInput, match=text):
        world.agency.stream([world.agency.header(), *parts])
    assert world.stored() == before


def test_a_taken_template_id_is_a_conflict(world: World) -> None:
    before = world.stored()
    with pytest.raises(Conflict, match="template id"):
        world.agency.enrol(VECTORS[:1], templates=TEMPLATES[:1])
    assert world.stored() == before


def test_units_before_a_bad_one_are_stored_and_answered(world: World) -> None:
    good, bad = labelled(1), unit_parts(labelled(1), [row()[:-1]])
    parts = [world.agency.header(), *world.agency.signed(unit_parts(good, [row()])), *bad]
    stub = gallery_pb2_grpc.GalleryServiceStub(world.agency.channel)
    call = stub.Enrol(iter(parts), timeout=60)
    assert next(call).templates == 1
    with pytest.raises(grpc.RpcError) as failed:
        next(call)
    assert isinstance(from_rpc_error(failed.value), MalformedCiphertext)
    removed = world.agency.galleries.RemoveTemplates(
        gallery_pb2.RemoveTemplatesRequest(gallery="missing", template_ids=[good[0].template_id])
    )
    assert removed.removed == 1


WRONG_ROLES: dict[str, tuple[str, Callable[[Caller], Any]]] = {
    "auditor searches": ("auditor", lambda caller: caller.search(VECTORS[0])),
    "auditor enrols": ("auditor", lambda caller: caller.enrol(VECTORS[:1])),
    "operator searches": ("operator", lambda caller: caller.search(VECTORS[0])),
    "operator creates": ("operator", lambda caller: caller.create("theirs")),
    "client mirrors": (
        "agency",
        lambda caller: list(
            caller.galleries.SyncCatalogue(gallery_pb2.SyncCatalogueRequest(gallery="missing"))
        ),
    ),
    "stranger enrols": ("other", lambda caller: caller.enrol(VECTORS[:1])),
    "stranger deletes": (
        "other",
        lambda caller: caller.galleries.DeleteGallery(
            gallery_pb2.DeleteGalleryRequest(name="missing")
        ),
    ),
    "stranger removes": (
        "other",
        lambda caller: caller.galleries.RemoveTemplates(
            gallery_pb2.RemoveTemplatesRequest(
                gallery="missing", template_ids=[TEMPLATES[0].template_id]
            )
        ),
    ),
    "stranger lists": (
        "other",
        lambda caller: caller.galleries.ListTemplates(
            gallery_pb2.ListTemplatesRequest(gallery="missing")
        ),
    ),
}


@pytest.mark.parametrize("name", WRONG_ROLES)
def test_the_wrong_role_is_refused(world: World, name: str) -> None:
    who, act = WRONG_ROLES[name]
    before = world.stored()
    with pytest.raises(PermissionRefused):
        act(world.people[who])
    assert world.stored() == before


@pytest.mark.parametrize("who", ["expired", "foreign"])
def test_an_expired_or_foreign_certificate_gets_no_connection(world: World, who: str) -> None:
    """The caller's own check would stop it first, so this caller does not check."""
    theirs = Credentials.load(world.credentials / who)
    authority = Credentials.load(world.credentials / "agency").authority
    credentials = grpc.ssl_channel_credentials(authority, theirs.private_key, theirs.certificate)
    address = f"127.0.0.1:{world.port}"
    for channel in (grpc.secure_channel(address, credentials), grpc.insecure_channel(address)):
        with channel, pytest.raises((PermissionRefused, Busy)):
            Caller(channel, theirs, LAB).state()
    if who == "expired":
        with pytest.raises(InvalidInput, match="expired"):
            calling(world.port, world.credentials / who).__enter__()


def test_page_tokens_are_checked(world: World) -> None:
    for token in ("%%%", "AAAA", "YWJj", "\u00e9"):
        with pytest.raises(InvalidInput, match="page token"):
            world.agency.galleries.ListTemplates(
                gallery_pb2.ListTemplatesRequest(gallery="missing", page_token=token)
            )


def test_the_gallery_still_works_after_all_this(world: World) -> None:
    state = world.agency.state()
    assert state.templates == 3
    found = world.agency.search(VECTORS[1])
    assert abs(world.agency.scores(found)[0][LAB.dimension] - 1) < 2**-8
