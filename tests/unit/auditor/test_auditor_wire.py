"""Hostile bytes in any field of what clients and servers send."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from underseal_auditor.api.access import ACCESS
from underseal_auditor.keys.messages import CeremonyFailed, Commitment, Reveal, Round
from underseal_auditor.keys.signed import SignedCommitment
from underseal_auditor.wire import (
    commitment_from_wire,
    commitment_to_wire,
    envelope_from_wire,
    envelope_to_wire,
    header_from_wire,
    pin_from_wire,
    reveal_from_wire,
    round_from_wire,
    sealed_from_wire,
)
from underseal_auditor.wire.catalogue import changes_from_wire
from underseal_core.credentials import Role
from underseal_core.errors import Damaged, InvalidInput
from underseal_core.gallery.unit import Placement, Shape
from underseal_core.scheme.ciphertext import Kind
from underseal_core.signing import Envelope, Signature
from underseal_proto.v1 import (
    approval_pb2,
    ceremony_pb2,
    common_pb2,
    gallery_pb2,
    log_pb2,
    registrar_pb2,
    search_pb2,
)

ENVELOPE = Envelope("type", b"payload", (Signature(b"k" * 32, b"s" * 64),))


def signature(key: int = 32, size: int = 64) -> common_pb2.Signature:
    return common_pb2.Signature(public_key=b"k" * key, signature=b"s" * size)


def test_envelope_comes_back() -> None:
    assert envelope_from_wire(envelope_to_wire(ENVELOPE)) == ENVELOPE


@pytest.mark.parametrize(
    "signatures",
    [[], [signature()] * 33, [signature(key=31)], [signature(), signature(size=65)]],
)
def test_envelope_with_bad_signatures(signatures: list[common_pb2.Signature]) -> None:
    with pytest.raises(InvalidInput):
        envelope_from_wire(common_pb2.Envelope(payload=b"x", signatures=signatures))


def test_parts_of_a_submission_in_the_wrong_place() -> None:
    sealed = registrar_pb2.SubmitRequest(
        sealed=search_pb2.SealedCiphertext(kind=search_pb2.SealedCiphertext.KIND_RESULT)
    )
    header = registrar_pb2.SubmitRequest(header=registrar_pb2.SubmitHeader())
    for message in (sealed, registrar_pb2.SubmitRequest()):
        with pytest.raises(InvalidInput, match="begins with its header"):
            header_from_wire(message)
    for message in (header, registrar_pb2.SubmitRequest()):
        with pytest.raises(InvalidInput, match="ciphertexts only"):
            sealed_from_wire(message)


def test_kinds_of_ciphertexts() -> None:
    for number, kind in ((1, Kind.RESULT), (2, Kind.NORM), (4, Kind.PROBE_ROW)):
        assert sealed_from_wire(numbered(number)) == (kind, 3, b"x")
    for number in (0, 3, 5, 99):
        with pytest.raises(InvalidInput, match="no known kind"):
            sealed_from_wire(numbered(number))


def numbered(kind: Any) -> registrar_pb2.SubmitRequest:
    message = search_pb2.SealedCiphertext(kind=kind, block=3, ciphertext=b"x")
    return registrar_pb2.SubmitRequest(sealed=message)


def catalogue_entry(**changes: object) -> gallery_pb2.SyncCatalogueResponse:
    fields: dict[str, object] = {
        "template_id": b"t" * 16,
        "subject_id": b"s" * 16,
        "unit_token": b"u" * 16,
        "place": 2,
        "sealed_label": b"label",
        "label_sha256": b"l" * 32,
    }
    entry = gallery_pb2.CatalogueEntry(**{**fields, **changes})  # type: ignore[arg-type]  # by name
    return gallery_pb2.SyncCatalogueResponse(entries=[entry])


def test_catalogue_entry_is_read() -> None:
    (entry,) = changes_from_wire(catalogue_entry()).entries
    assert (entry.unit_token, entry.place, entry.removed_version) == (b"u" * 16, 2, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"template_id": b"t" * 15},
        {"subject_id": b""},
        {"unit_token": b"u" * 17},
        {"label_sha256": b"l" * 33},
        {"sealed_label": b"x" * 8193},
        {"place": 1 << 14},
        {"removed_version": 1 << 53},
    ],
)
def test_impossible_catalogue_entry(change: dict[str, object]) -> None:
    with pytest.raises(Damaged):
        changes_from_wire(catalogue_entry(**change))


def catalogue_unit(**changes: object) -> gallery_pb2.SyncCatalogueResponse:
    receipt = common_pb2.Envelope(payload_type="t", payload=b"p")
    receipt.signatures.add(public_key=b"k" * 32, signature=b"s" * 64)
    fields: dict[str, object] = {
        "token": b"t" * 16,
        "shape": gallery_pb2.UnitBegin.SHAPE_ROW,
        "block": 1,
        "first_slot": 3,
        "slot_step": 8,
        "templates": 2,
        "sha256": b"u" * 32,
        "receipt": receipt,
        "added_version": 1,
    }
    unit = gallery_pb2.CatalogueUnit(**{**fields, **changes})  # type: ignore[arg-type]  # by name
    return gallery_pb2.SyncCatalogueResponse(units=[unit])


def test_catalogue_unit_is_read() -> None:
    (unit,) = changes_from_wire(catalogue_unit()).units
    assert unit.placement == Placement(1, 3, 8, 2)
    assert (unit.token, unit.shape, unit.receipt.payload) == (b"t" * 16, Shape.ROW, b"p")


@pytest.mark.parametrize(
    "change",
    [
        {"token": b"t" * 15},
        {"shape": 0},
        {"shape": 3},
        {"block": 1 << 20},
        {"first_slot": 1 << 14},
        {"slot_step": 0},
        {"slot_step": 1 << 14},
        {"templates": 0},
        {"templates": (1 << 14) + 1},
        {"sha256": b"u" * 33},
        {"receipt": common_pb2.Envelope(payload=b"p")},
        {"receipt": common_pb2.Envelope(payload=bytes(4097), signatures=[common_pb2.Signature()])},
        {"added_version": 0},
        {"added_version": 1 << 53},
    ],
)
def test_impossible_catalogue_unit(change: dict[str, object]) -> None:
    with pytest.raises(Damaged):
        changes_from_wire(catalogue_unit(**change))


def test_impossible_version() -> None:
    with pytest.raises(Damaged):
        changes_from_wire(gallery_pb2.SyncCatalogueResponse(complete_version=1 << 53))


def test_impossible_pin() -> None:
    with pytest.raises(Damaged):
        pin_from_wire(common_pb2.Pin(model_id="m", model_dimension=1))


def test_every_call_of_the_registrar_has_a_row() -> None:
    services = [
        registrar_pb2.DESCRIPTOR.services_by_name["RegistrarService"],
        log_pb2.DESCRIPTOR.services_by_name["LogService"],
        approval_pb2.DESCRIPTOR.services_by_name["ApprovalService"],
    ]
    methods = {f"/{s.full_name}/{method.name}" for s in services for method in s.methods}
    assert methods == {name for name in ACCESS if "underseal" in name}
    assert ACCESS["/underseal.v1.RegistrarService/Submit"] == {Role.CLIENT}
    assert ACCESS["/underseal.v1.RegistrarService/GetRelease"] == {Role.CLIENT}


def test_only_rounds_of_the_ceremony_are_accepted() -> None:
    assert [round_from_wire(number, Round) for number in range(1, 7)] == list(Round)
    for number in (0, 7, 2**32 - 1):
        with pytest.raises(InvalidInput):
            round_from_wire(number, Round)


@pytest.mark.parametrize(("digest", "size"), [(31, 64), (33, 64), (32, 0), (32, 65)])
def test_commitment_of_another_length_is_refused(digest: int, size: int) -> None:
    message = ceremony_pb2.GetCommitmentResponse(digest=bytes(digest), signature=bytes(size))
    with pytest.raises(CeremonyFailed):
        commitment_from_wire(message, Round.NONCE, 1)


def test_commitment_survives_the_wire() -> None:
    signed = SignedCommitment(Commitment(Round.NONCE, 3, b"d" * 32), b"s" * 64)
    assert commitment_from_wire(commitment_to_wire(signed), Round.NONCE, 3) == signed


def test_reveal_is_read_no_further_than_its_longest_form() -> None:
    read = []

    def pieces() -> Iterator[ceremony_pb2.GetRevealResponse]:
        for _ in range(100):
            read.append(1)
            yield ceremony_pb2.GetRevealResponse(piece=bytes(16))

    with pytest.raises(CeremonyFailed, match="too long"):
        reveal_from_wire(pieces(), Round.NONCE, 2, limit=32)
    assert len(read) == 5
    short = [ceremony_pb2.GetRevealResponse(piece=bytes(31))]
    with pytest.raises(CeremonyFailed, match="malformed"):
        reveal_from_wire(short, Round.NONCE, 2, limit=32)
    whole = [ceremony_pb2.GetRevealResponse(piece=bytes(40))] * 2
    assert reveal_from_wire(whole, Round.NONCE, 2, 48) == Reveal(
        Round.NONCE, 2, bytes(32), bytes(48)
    )
