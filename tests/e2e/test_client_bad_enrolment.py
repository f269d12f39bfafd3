"""What cannot be enrolled is refused with the right status, and nothing stored changes."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest

from tests.e2e.people import people
from tests.e2e.refusals import SHORT, SPOILED, Code, Refused, enrol, other_pins, templates
from underseal_client import Client
from underseal_client import gallery as galleries
from underseal_client.connection import Connection
from underseal_client.records import Gallery, NewTemplate
from underseal_client.wire import galleries as gallery_wire
from underseal_core.gallery.unit import Shape
from underseal_core.rpc.tls import MESSAGE_LIMIT
from underseal_core.scheme.encryption import Encryptor
from underseal_core.statements import Pin


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
    request = gallery_wire.create_gallery_to_wire("not-made", wrong, [], 0, 0)
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
    request = gallery_wire.remove_to_wire(filled.name, [*known, bytes(16)])
    refusal = refused(lambda: connection.galleries.RemoveTemplates(request, timeout=SHORT))
    assert refusal.code is Code.NOT_FOUND
