"""Bad input gets a clear public error with the right status, and nothing stored changes."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from tests.e2e.people import people
from underseal_client import Client, ClientSettings, TemplateRecord, wire
from underseal_client import gallery as galleries
from underseal_client.connection import Connection
from underseal_client.demo.deployment import AUDITOR, Deployment
from underseal_client.records import Gallery, NewTemplate, Shape
from underseal_client.search import Question, sign_request, wanted
from underseal_core.bundle import load_bundle
from underseal_core.credentials import Credentials, Role
from underseal_core.errors import Damaged, InvalidInput, Mismatch, NotFound
from underseal_core.rpc.status import HINT_KEY
from underseal_core.rpc.tls import MESSAGE_LIMIT
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.profiles import GUARDED
from underseal_core.signing import Envelope
from underseal_core.statements import Pin, SearchRequest, Targets, utc_text
from underseal_proto.v1 import gallery_pb2
from underseal_proto.v1.gallery_pb2_grpc import GalleryServiceStub
from underseal_proto.v1.search_pb2_grpc import SearchServiceStub
from underseal_server.pki import Authority, issue

Code = grpc.StatusCode
SHORT = 20.0


@pytest.fixture(scope="session")
def encryptor(deployment: Deployment) -> Encryptor:
    bundle = load_bundle(deployment.bundle)
    return Encryptor(bundle.profile, bundle.dimension, bundle.public_key)


@dataclass(frozen=True)
class Filled:
    """A gallery with five people, and the files that hold it."""

    gallery: Gallery
    files: tuple[Path, ...]

    def state(self, client: Client) -> object:
        """Everything about it that a call could change."""
        digests = [hashlib.sha256(path.read_bytes()).digest() for path in self.files]
        name = self.gallery.name
        return client.gallery(name), list(client.templates(name)), digests


def _files(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if p.is_file() and p.suffix in {".tiles", ".unit"}}


@pytest.fixture(scope="module")
def agency(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("agency")
    settings = deployment.settings(state=folder / "state", subject_key=folder / "key")
    with Client(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def keeper(
    agency: Client, deployment: Deployment, pin: Pin, names: Iterator[str]
) -> Iterator[Filled]:
    before = _files(deployment.server_data)
    with Connection(agency.settings) as connection:
        name = galleries.create(connection, next(names), pin).name
    agency.enroll_templates(name, people(5, seed=50))
    files = tuple(sorted(_files(deployment.server_data) - before))
    assert len(files) >= 2  # a block and a unit
    yield Filled(agency.gallery(name), files)
    agency.delete_gallery(name)


@pytest.fixture
def filled(keeper: Filled) -> Gallery:
    return keeper.gallery


@dataclass(frozen=True)
class Refusal:
    code: grpc.StatusCode
    text: str
    hint: str


@pytest.fixture
def refused(
    agency: Client, keeper: Filled, deployment: Deployment
) -> Callable[[Callable[[], object]], Refusal]:
    """Run a call that must fail, and check that gallery and files stay as they are."""

    def check(call: Callable[[], object]) -> Refusal:
        before = keeper.state(agency)
        with pytest.raises(grpc.RpcError) as raised:
            call()
        assert keeper.state(agency) == before
        error: Any = raised.value
        hints = dict(error.trailing_metadata() or ())
        text = error.details()
        assert text
        assert str(deployment.folder) not in text
        return Refusal(error.code(), text, str(hints.get(HINT_KEY, "")))

    return check


Refused = Callable[[Callable[[], object]], Refusal]


# --- enrolment -----------------------------------------------------------------------------------


def templates(count: int) -> list[NewTemplate]:
    return [
        NewTemplate(secrets.token_bytes(16), secrets.token_bytes(16), b"sealed")
        for _ in range(count)
    ]


def enrol(
    connection: Connection,
    gallery: Gallery,
    ciphertexts: list[bytes],
    *,
    pin: Pin | None = None,
    shape: Shape = Shape.ROW,
    entries: list[NewTemplate] | None = None,
    token: bytes | None = None,
) -> list[object]:
    parts = wire.unit_to_wire(
        gallery.name,
        pin or gallery.pin,
        token or secrets.token_bytes(16),
        shape,
        templates(1) if entries is None else entries,
        ciphertexts,
    )
    messages = [wire.enrol_part(part) for part in parts]
    return list(connection.galleries.Enrol(iter(messages), timeout=SHORT))


@pytest.fixture(scope="session")
def row(encryptor: Encryptor) -> bytes:
    """A sound row of one template."""
    return encryptor.encrypt_row(people(1, seed=51)[0].vector[None, :]).to_bytes()


def put(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


PRIME = GUARDED.data_primes[0].to_bytes(4, "little")
SPOILED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "header only": lambda data: data[:8],
    "truncated by a byte": lambda data: data[:-1],
    "truncated to half": lambda data: data[: len(data) // 2],
    "oversized by a residue": lambda data: data + bytes(4),
    "residue equal to its prime": lambda data: put(data, 8, PRIME),
    "largest residue": lambda data: put(data, len(data) - 4, b"\xff\xff\xff\xff"),
    "wrong magic": lambda data: put(data, 0, b"USC2"),
    "wrong profile": lambda data: put(data, 4, b"\x02"),
    "wrong kind": lambda data: put(data, 5, b"\x03"),
    "three components": lambda data: put(data, 6, b"\x03"),
    "one component": lambda data: put(data, 6, b"\x01"),
    "wrong level": lambda data: put(data, 7, b"\x04"),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
def test_spoiled_row_is_not_enrolled(
    connection: Connection,
    filled: Gallery,
    row: bytes,
    refused: Refused,
    spoil: Callable[[bytes], bytes],
) -> None:
    refusal = refused(lambda: enrol(connection, filled, [spoil(row)]))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert "ciphertext" in refusal.text


def test_message_beyond_the_limit_is_not_enrolled(
    connection: Connection, filled: Gallery, row: bytes, refused: Refused
) -> None:
    refusal = refused(lambda: enrol(connection, filled, [row + bytes(MESSAGE_LIMIT)]))
    assert refusal.code in {Code.RESOURCE_EXHAUSTED, Code.INVALID_ARGUMENT}


def test_too_few_columns_are_not_enrolled(
    connection: Connection, filled: Gallery, encryptor: Encryptor, refused: Refused
) -> None:
    column = next(iter(encryptor.encrypt_columns(people(1, seed=52)[0].vector[None, :])))
    columns = [column.to_bytes()] * 3
    refusal = refused(lambda: enrol(connection, filled, columns, shape=Shape.COLUMNS))
    assert refusal.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "entries",
    [
        [],
        templates(65),
        [NewTemplate(bytes(15), bytes(16), b"sealed")],
        [NewTemplate(bytes(16), bytes(17), b"sealed")],
        [NewTemplate(bytes(16), bytes(16), bytes(1 << 20))],
        [NewTemplate(bytes(16), bytes(16), b"sealed")] * 2,
    ],
    ids=["none", "more than a row", "short id", "long subject", "huge label", "id twice"],
)
def test_impossible_templates_are_not_enrolled(
    connection: Connection,
    filled: Gallery,
    row: bytes,
    refused: Refused,
    entries: list[NewTemplate],
) -> None:
    refusal = refused(lambda: enrol(connection, filled, [row], entries=entries))
    assert refusal.code is Code.INVALID_ARGUMENT


def other_pins(pin: Pin) -> dict[str, Pin]:
    return {
        "model": pin.model_copy(update={"model_id": "another"}),
        "dimension": pin.model_copy(update={"model_dimension": 64}),
        "profile": pin.model_copy(update={"profile": "compact"}),
        "key epoch": pin.model_copy(update={"key_epoch": "f" * 64}),
    }


@pytest.mark.parametrize("what", ["model", "dimension", "profile", "key epoch"])
def test_template_of_other_pin_is_not_enrolled(
    connection: Connection, filled: Gallery, row: bytes, refused: Refused, what: str
) -> None:
    pin = other_pins(filled.pin)[what]
    refusal = refused(lambda: enrol(connection, filled, [row], pin=pin))
    assert refusal.code is Code.FAILED_PRECONDITION
    assert what in refusal.text
    assert refusal.hint


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"profile": "compact"}, Code.FAILED_PRECONDITION),
        ({"profile": "no-such-profile"}, Code.FAILED_PRECONDITION),
        ({"key_epoch": "f" * 64}, Code.FAILED_PRECONDITION),
        ({"model_dimension": 512}, Code.FAILED_PRECONDITION),
    ],
    ids=["other profile", "unknown profile", "unknown key epoch", "dimension beyond the keys"],
)
def test_gallery_that_no_keys_fit_is_not_made(
    connection: Connection,
    agency: Client,
    pin: Pin,
    refused: Refused,
    change: dict[str, object],
    code: grpc.StatusCode,
) -> None:
    wrong = pin.model_copy(update=change)
    request = wire.create_gallery_to_wire("not-made", wrong, [], 0)
    refusal = refused(lambda: connection.galleries.CreateGallery(request, timeout=SHORT))
    assert refusal.code is code
    assert "not-made" not in [entry.name for entry in agency.galleries()]


def test_known_token_with_other_content_is_not_enrolled(
    connection: Connection, gallery: Gallery, row: bytes, encryptor: Encryptor
) -> None:
    token = secrets.token_bytes(16)
    entries = templates(1)
    enrol(connection, gallery, [row], token=token, entries=entries)
    before = galleries.describe(connection, gallery.name)
    enrol(connection, gallery, [row], token=token, entries=entries)
    other = encryptor.encrypt_row(people(1, seed=53)[0].vector[None, :]).to_bytes()
    with pytest.raises(grpc.RpcError) as raised:
        enrol(connection, gallery, [other], token=token, entries=entries)
    error: Any = raised.value
    assert error.code() is Code.ALREADY_EXISTS
    assert galleries.describe(connection, gallery.name) == before


def test_unknown_gallery_is_not_found(
    connection: Connection, filled: Gallery, row: bytes, refused: Refused
) -> None:
    unknown = replace(filled, name="no-such-gallery")
    assert refused(lambda: enrol(connection, unknown, [row])).code is Code.NOT_FOUND


def test_unknown_template_is_not_removed_nor_are_others(
    connection: Connection, agency: Client, filled: Gallery, refused: Refused
) -> None:
    known = [entry.template_id for entry in agency.templates(filled.name)]
    request = wire.remove_to_wire(filled.name, [*known, bytes(16)], b"")
    refusal = refused(lambda: connection.galleries.RemoveTemplates(request, timeout=SHORT))
    assert refusal.code is Code.NOT_FOUND


# --- search --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asker:
    """Signs and sends requests that may be wrong."""

    connection: Connection
    gallery: Gallery
    probe: bytes

    def request(self, **changes: object) -> SearchRequest:
        question = Question("tests", "T-1", wanted(3, None))
        identity, name = self.connection.credentials.identity, self.connection.me.name
        request, _ = sign_request(
            identity, name, self.gallery, self.probe, question, timedelta(minutes=5)
        )
        return request.model_copy(update=changes)

    def sign(self, request: SearchRequest) -> Envelope:
        return request.sign(self.connection.credentials.identity)

    def send(self, envelope: Envelope, probe: bytes | None = None) -> list[object]:
        message = wire.search_to_wire(envelope, self.probe if probe is None else probe)
        return list(self.connection.searches.Search(message, timeout=SHORT))

    def verify(self, envelope: Envelope) -> list[object]:
        message = wire.verify_to_wire(envelope, self.probe)
        return list(self.connection.searches.Verify(message, timeout=SHORT))


@pytest.fixture
def asker(connection: Connection, filled: Gallery, encryptor: Encryptor) -> Asker:
    probe = encryptor.encrypt_probe(people(1, seed=54)[0].vector).to_bytes()
    return Asker(connection, filled, probe)


def test_sound_request_is_answered(asker: Asker) -> None:
    assert len(asker.send(asker.sign(asker.request()))) >= 4


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
def test_spoiled_probe_is_refused(
    asker: Asker, refused: Refused, spoil: Callable[[bytes], bytes]
) -> None:
    probe = spoil(asker.probe)
    request = asker.request(probe_sha256=hashlib.sha256(probe).hexdigest())
    refusal = refused(lambda: asker.send(asker.sign(request), probe))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert "ciphertext" in refusal.text


@pytest.mark.parametrize("what", ["model", "dimension", "profile", "key epoch"])
def test_request_of_other_pin_is_refused(asker: Asker, refused: Refused, what: str) -> None:
    request = asker.request(pin=other_pins(asker.gallery.pin)[what])
    refusal = refused(lambda: asker.send(asker.sign(request)))
    assert refusal.code is Code.FAILED_PRECONDITION
    assert what in refusal.text


def test_request_for_unknown_gallery_or_template_is_not_found(
    asker: Asker, refused: Refused
) -> None:
    unknown = asker.request(gallery="no-such-gallery")
    assert refused(lambda: asker.send(asker.sign(unknown))).code is Code.NOT_FOUND
    for targets in (Targets(template_ids=("00" * 16,)), Targets(subject_id="00" * 16)):
        request = asker.request(targets=targets)
        envelope = asker.sign(request)
        assert refused(lambda e=envelope: asker.verify(e)).code is Code.NOT_FOUND  # type: ignore[misc]


def test_request_id_is_answered_once(asker: Asker, refused: Refused) -> None:
    request = asker.request()
    asker.send(asker.sign(request))
    refusal = refused(lambda: asker.send(asker.sign(request)))
    assert refusal.code is Code.ALREADY_EXISTS
    assert "request id" in refusal.text
    other = request.model_copy(update={"case_reference": "another case"})
    assert refused(lambda: asker.send(asker.sign(other))).code is Code.ALREADY_EXISTS


def _times(start: timedelta, end: timedelta) -> dict[str, str]:
    now = datetime.now(UTC)
    return {"issued_at": utc_text(now + start), "expires_at": utc_text(now + end)}


@pytest.mark.parametrize(
    ("start", "end", "word"),
    [(-30, -10, "expired"), (10, 30, "not valid yet"), (0, 61, "one hour"), (5, 0, "one hour")],
)
def test_request_outside_its_time_is_refused(
    asker: Asker, refused: Refused, start: int, end: int, word: str
) -> None:
    times = _times(timedelta(minutes=start), timedelta(minutes=end))
    refusal = refused(lambda: asker.send(asker.sign(asker.request(**times))))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert word in refusal.text


def test_request_of_another_signer_or_name_is_refused(
    asker: Asker, refused: Refused, deployment: Deployment
) -> None:
    bureau = Credentials.load(deployment.credentials("clients", "bureau"))
    foreign = asker.request().sign(bureau.identity)
    assert refused(lambda: asker.send(foreign)).code is Code.PERMISSION_DENIED
    named = asker.request(client="bureau")
    assert refused(lambda: asker.send(asker.sign(named))).code is Code.PERMISSION_DENIED


def test_changed_request_or_probe_is_refused(
    asker: Asker, refused: Refused, encryptor: Encryptor
) -> None:
    envelope = asker.sign(asker.request())
    changed = replace(envelope, payload=envelope.payload.replace(b"T-1", b"T-2"))
    assert refused(lambda: asker.send(changed)).code is Code.PERMISSION_DENIED
    probe = encryptor.encrypt_probe(people(1, seed=55)[0].vector).to_bytes()
    refusal = refused(lambda: asker.send(asker.sign(asker.request()), probe))
    assert refusal.code is Code.INVALID_ARGUMENT


# --- certificates and roles ----------------------------------------------------------------------


@contextmanager
def channel(
    deployment: Deployment, folder: Path | None, authority: bytes
) -> Iterator[grpc.Channel]:
    """A channel without our own checks before the handshake."""
    own = None if folder is None else (folder / "tls.key", folder / "tls.crt")
    credentials = grpc.ssl_channel_credentials(
        root_certificates=authority,
        private_key=own[0].read_bytes() if own else None,
        certificate_chain=own[1].read_bytes() if own else None,
    )
    with grpc.secure_channel(deployment.server_address, credentials) as opened:
        yield opened


def list_galleries(opened: grpc.Channel) -> object:
    return GalleryServiceStub(opened).ListGalleries(wire.list_galleries_to_wire(""), timeout=SHORT)


@pytest.mark.parametrize("kind", ["expired", "foreign", "none"])
def test_unusable_certificate_gets_no_answer(
    deployment: Deployment, tmp_path: Path, refused: Refused, kind: str
) -> None:
    own = deployment.folder / "authority" / "ca"
    authority = Authority.create() if kind == "foreign" else Authority.load(own)
    folder = tmp_path / "intruder"
    lifetime = timedelta(days=-1 if kind == "expired" else 1)
    issue(authority, folder, Role.CLIENT, "agency", lifetime=lifetime)
    root = (own / "ca.crt").read_bytes()
    with channel(deployment, None if kind == "none" else folder, root) as opened:
        refusal = refused(lambda: list_galleries(opened))
    assert refusal.code is Code.UNAVAILABLE


def test_client_refuses_a_server_of_another_authority(
    deployment: Deployment, refused: Refused
) -> None:
    folder = deployment.credentials("clients", "agency")
    with channel(deployment, folder, Authority.create().pem()) as opened:
        refusal = refused(lambda: list_galleries(opened))
    assert refusal.code is Code.UNAVAILABLE


def test_roles_do_what_the_table_allows_only(
    deployment: Deployment, connection: Connection, asker: Asker, row: bytes, refused: Refused
) -> None:
    root = (deployment.folder / "authority" / "ca" / "ca.crt").read_bytes()
    auditor = deployment.credentials("auditors", AUDITOR)
    message = wire.search_to_wire(asker.sign(asker.request()), asker.probe)
    parts = wire.unit_to_wire(
        asker.gallery.name, asker.gallery.pin, bytes(16), Shape.ROW, templates(1), [row]
    )
    messages = [wire.enrol_part(part) for part in parts]
    delete = wire.delete_gallery_to_wire(asker.gallery.name)
    with channel(deployment, auditor, root) as opened:
        stub, searches = GalleryServiceStub(opened), SearchServiceStub(opened)
        calls: list[Callable[[], object]] = [
            lambda: list(searches.Search(message, timeout=SHORT)),
            lambda: list(stub.Enrol(iter(messages), timeout=SHORT)),
            lambda: stub.DeleteGallery(delete, timeout=SHORT),
        ]
        for call in calls:
            assert refused(call).code is Code.PERMISSION_DENIED
        list_galleries(opened)
    sync = gallery_pb2.SyncCatalogueRequest(gallery=asker.gallery.name)
    refusal = refused(lambda: list(connection.galleries.SyncCatalogue(sync, timeout=SHORT)))
    assert refusal.code is Code.PERMISSION_DENIED


# --- what the client itself notices --------------------------------------------------------------


def search(client: Client, gallery: str, vector: npt.NDArray[np.float64]) -> object:
    return client.search_template(vector, gallery=gallery, purpose="tests", case="T-1")


def test_wrong_bundle_is_noticed_before_anything_is_sent(
    deployment: Deployment, settings: ClientSettings, filled: Gallery
) -> None:
    vector = people(1, seed=56)[0].vector
    broken = settings.state.parent / "broken.usb"
    data = bytearray(deployment.bundle.read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)
    cases: list[tuple[dict[str, object], type[Exception], str]] = [
        ({"key_epoch": "f" * 64}, Mismatch, "epoch"),
        ({"bundle": broken}, Damaged, "not signed"),
        ({"bundle": broken.with_name("none.usb")}, NotFound, "bundle"),
    ]
    for change, error, text in cases:
        client = Client(settings.model_copy(update=change))
        with client, pytest.raises(error, match=text):
            search(client, filled.name, vector)


@pytest.mark.parametrize(
    "vector",
    [np.zeros(128), np.full(128, np.nan), np.ones(128), 1.01 * np.eye(128)[0], np.eye(64)[0]],
    ids=["zero", "nan", "ones", "too long", "wrong dimension"],
)
def test_vector_that_is_no_template_is_refused_here(
    agency: Client, filled: Gallery, vector: npt.NDArray[np.float64]
) -> None:
    with pytest.raises(InvalidInput):
        agency.enroll_templates(filled.name, [TemplateRecord("x", vector)])
    with pytest.raises(InvalidInput):
        search(agency, filled.name, vector)
    assert agency.gallery(filled.name) == filled
