"""The server stores nothing that its sender did not sign for, exactly as it came."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.server_fixtures import Lab, labelled, unit_vectors
from tests.server_harness import (
    Caller,
    calling,
    ciphertexts,
    make_credentials,
    serving,
    unit_parts,
)
from underseal_core.errors import InvalidInput, PermissionRefused
from underseal_core.gallery.unit import Shape
from underseal_core.signing import Identity
from underseal_core.statements import SearchRequest
from underseal_proto.v1 import common_pb2, gallery_pb2
from underseal_server.settings import Settings
from underseal_server.wire import envelope_to_wire

LAB = Lab()
ROW = ciphertexts(LAB, unit_vectors(1), Shape.ROW)

WRONG: dict[str, dict[str, Any]] = {
    "gallery": {"gallery": "another"},
    "pin": {"pin": LAB.pin.model_copy(update={"model_id": "other-model"})},
    "client": {"client": "other"},
    "token": {"token": "0" * 32},
    "shape": {"shape": Shape.COLUMNS},
    "templates": {"templates": 2},
    "templates_root": {"templates_root": "0" * 64},
    "unit_sha256": {"unit_sha256": "0" * 64},
}


@pytest.fixture(scope="module")
def agency(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    root = tmp_path_factory.mktemp("server")
    credentials = make_credentials(root / "credentials")
    LAB.bundle.save(root / "bundle.usb")
    settings = Settings(
        listen="127.0.0.1:0",
        data=root / "data",
        credentials=credentials / "server",
        bundles=(root / "bundle.usb",),
        threads=1,
    )
    with serving(settings) as server, calling(server.port, credentials / "agency") as caller:
        caller.create()
        yield caller


def units_stored(agency: Caller) -> tuple[int, int]:
    state = agency.state()
    return state.version, state.templates


@pytest.mark.parametrize("field", WRONG)
def test_receipt_of_another_unit(agency: Caller, field: str) -> None:
    before = units_stored(agency)
    parts = agency.signed(unit_parts(labelled(1), ROW), **WRONG[field])
    with pytest.raises(InvalidInput, match=f"{field} differs"):
        agency.stream([agency.header(), *parts])
    assert units_stored(agency) == before


def test_receipt_of_somebody_else(agency: Caller) -> None:
    before = units_stored(agency)
    unit = unit_parts(labelled(1), ROW)
    envelope = envelope_to_wire(agency.receipt(unit).sign(Identity.generate()))
    with pytest.raises(PermissionRefused):
        agency.stream([agency.header(), *unit, gallery_pb2.EnrolRequest(receipt=envelope)])
    assert units_stored(agency) == before


def test_receipt_that_is_none(agency: Caller) -> None:
    before = units_stored(agency)
    unit = unit_parts(labelled(1), ROW)
    receipt, identity = agency.receipt(unit), agency.credentials.identity
    twice = envelope_to_wire(receipt.sign(identity))
    twice.signatures.extend(envelope_to_wire(receipt.sign(Identity.generate())).signatures)
    other = envelope_to_wire(receipt.sign(identity))
    other.payload_type = SearchRequest.payload_type
    for envelope in (twice, other, common_pb2.Envelope()):
        with pytest.raises(InvalidInput):
            agency.stream([agency.header(), *unit, gallery_pb2.EnrolRequest(receipt=envelope)])
    assert units_stored(agency) == before


def test_unit_without_a_receipt(agency: Caller) -> None:
    before = units_stored(agency)
    unit = unit_parts(labelled(1), ROW)
    with pytest.raises(InvalidInput, match="ended within a unit"):
        agency.stream([agency.header(), *unit])
    assert units_stored(agency) == before
