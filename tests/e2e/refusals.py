"""What bad-input tests share: sound requests to spoil, and what a refusal looks like."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import grpc

from tests.plain_form import any_ciphertext
from underseal_client import Client, wire
from underseal_client.connection import Connection
from underseal_client.records import Gallery, NewTemplate
from underseal_client.search import Question, ask_server, sign_request, wanted
from underseal_core.errors import UndersealError
from underseal_core.gallery.unit import Shape
from underseal_core.provenance import Enrolled
from underseal_core.scheme.ciphertext import Ciphertext, Digest
from underseal_core.scheme.profiles import GUARDED
from underseal_core.signing import Envelope
from underseal_core.statements import Pin, SearchRequest, utc_text
from underseal_proto.v1 import search_pb2

Code = grpc.StatusCode
SHORT = 20.0


@dataclass(frozen=True)
class Filled:
    """A gallery with five people, and the files that hold its units."""

    gallery: Gallery
    files: tuple[Path, ...]

    def state(self, client: Client) -> object:
        """Everything about it that a call could change; its block is checked at the end."""
        digests = [hashlib.sha256(path.read_bytes()).digest() for path in self.files]
        name = self.gallery.name
        return client.gallery(name), list(client.templates(name)), digests


def units(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*.unit") if path.is_file()}


def scores(client: Client, gallery: Gallery, probe: bytes) -> list[str]:
    """Hashes of the sealed scores: evaluation is deterministic, so they stand for the block."""
    question = Question("tests", "T-1", wanted(1, None))
    with Connection(client.settings) as connection:
        answer = ask_server(connection, gallery, probe, question, timedelta(minutes=5))
    return [block.sha256 for block in answer.result.blocks]


@dataclass(frozen=True)
class Refusal:
    code: grpc.StatusCode
    text: str
    hint: str


Refused = Callable[[Callable[[], object]], Refusal]


def templates(count: int) -> list[NewTemplate]:
    return [
        NewTemplate(secrets.token_bytes(16), secrets.token_bytes(16), b"sealed")
        for _ in range(count)
    ]


@dataclass(frozen=True)
class Raw:
    """Bytes in the place of a ciphertext, which they need not be."""

    data: bytes

    def to_bytes(self) -> bytes:
        return self.data

    def hash_plain(self, digest: Digest) -> None:
        try:
            any_ciphertext(self.data).hash_plain(digest)
        except (UndersealError, IndexError, ValueError):
            digest.update(self.data)


def signer(
    connection: Connection,
    gallery: str,
    pin: Pin,
    token: bytes,
    shape: Shape,
    entries: list[NewTemplate],
) -> Callable[[bytes], Envelope]:
    """Makes the receipt of a unit, even of one that cannot be."""

    def sign(unit_sha256: bytes) -> Envelope:
        leaves = [
            e.template_id + e.subject_id + hashlib.sha256(e.sealed_label).digest() for e in entries
        ]
        receipt = Enrolled(gallery, pin, token, shape, leaves or [b""], unit_sha256).receipt(
            connection.me.name, utc_text(datetime.now(UTC))
        )
        return receipt.sign(connection.credentials.identity)

    return sign


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
    token = token or secrets.token_bytes(16)
    entries = templates(1) if entries is None else entries
    pin = pin or gallery.pin
    sign = signer(connection, gallery.name, pin, token, shape, entries)
    raw = [cast("Ciphertext", Raw(data)) for data in ciphertexts]
    parts = wire.unit_to_wire(gallery.name, pin, token, shape, entries, raw, sign)
    messages = [wire.enrol_part(part) for part in parts]
    return list(connection.galleries.Enrol(iter(messages), timeout=SHORT))


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
    "wrong magic": lambda data: put(data, 0, b"USC1"),
    "wrong profile": lambda data: put(data, 4, b"\x02"),
    "wrong kind": lambda data: put(data, 5, b"\x03"),
    "three components": lambda data: put(data, 6, b"\x03"),
    "one component": lambda data: put(data, 6, b"\x01"),
    "wrong level": lambda data: put(data, 7, b"\x04"),
}


def other_pins(pin: Pin) -> dict[str, Pin]:
    return {
        "model": pin.model_copy(update={"model_id": "another"}),
        "dimension": pin.model_copy(update={"model_dimension": 64}),
        "profile": pin.model_copy(update={"profile": "compact"}),
        "key epoch": pin.model_copy(update={"key_epoch": "f" * 64}),
    }


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

    def send(
        self, envelope: Envelope, probe: bytes | None = None
    ) -> list[search_pb2.SearchResponse]:
        message = wire.search_to_wire(envelope, self.probe if probe is None else probe)
        return list(self.connection.searches.Search(message, timeout=SHORT))
