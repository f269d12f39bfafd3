"""Hostile bytes in any field of what guardians and registrars send each other."""

from __future__ import annotations

import pytest

from underseal_auditor.api import ceremony_servicer, guardian_servicer
from underseal_auditor.keys.joint_opening import ZeroCommitment
from underseal_auditor.verify.chain import Place
from underseal_auditor.wire import (
    PieceReader,
    commitments_from_wire,
    kind_to_wire,
    opening_header_from_wire,
    opening_sealed_from_wire,
    place_from_wire,
    session_from_wire,
    signature_from_wire,
    zeros_from_wire,
    zeros_to_wire,
)
from underseal_core.credentials import Role
from underseal_core.errors import Damaged, InvalidInput
from underseal_core.rpc.access import STANDARD_METHODS, AccessTable
from underseal_core.scheme.ciphertext import Kind
from underseal_proto.v1 import ceremony_pb2, common_pb2, guardian_pb2, search_pb2

SEALED = search_pb2.SealedCiphertext
COMMITMENT = ZeroCommitment(3, b"d" * 32, b"s" * 64)


def test_commitment_survives_the_wire() -> None:
    assert zeros_from_wire(zeros_to_wire(COMMITMENT)) == COMMITMENT


@pytest.mark.parametrize(
    ("point", "digest", "signature"), [(0, 32, 64), (33, 32, 64), (1, 31, 64), (1, 32, 65)]
)
def test_impossible_commitment_is_refused(point: int, digest: int, signature: int) -> None:
    message = guardian_pb2.ZeroCommitment(
        point=point, digest=bytes(digest), signature=bytes(signature)
    )
    with pytest.raises(InvalidInput):
        zeros_from_wire(message)


def test_too_many_commitments_or_guardians_are_refused() -> None:
    with pytest.raises(InvalidInput):
        commitments_from_wire([zeros_to_wire(COMMITMENT)] * 33)
    header = guardian_pb2.OpeningHeader(active=range(1, 34))
    with pytest.raises(InvalidInput):
        opening_header_from_wire(guardian_pb2.BeginOpeningRequest(header=header))


def test_parts_out_of_order_are_refused() -> None:
    sealed = guardian_pb2.BeginOpeningRequest(sealed=SEALED())
    header = guardian_pb2.BeginOpeningRequest(header=guardian_pb2.OpeningHeader())
    with pytest.raises(InvalidInput, match="begins"):
        opening_header_from_wire(sealed)
    for wrong in (header, guardian_pb2.BeginOpeningRequest()):
        with pytest.raises(InvalidInput, match="ciphertexts only"):
            opening_sealed_from_wire(wrong)
    with pytest.raises(InvalidInput, match="kind"):
        opening_sealed_from_wire(sealed)


def test_kinds_survive_the_wire() -> None:
    for kind in (Kind.RESULT, Kind.NORM, Kind.PROBE_ROW):
        assert place_from_wire(kind_to_wire(kind), 7) == Place(kind, 7)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_session_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(InvalidInput):
        session_from_wire(bytes(size))


@pytest.mark.parametrize(("key", "size"), [(31, 64), (32, 63)])
def test_countersignature_of_another_length_is_refused(key: int, size: int) -> None:
    with pytest.raises(Damaged):
        signature_from_wire(common_pb2.Signature(public_key=bytes(key), signature=bytes(size)))


def test_pieces_are_taken_up_to_the_limit() -> None:
    reader = PieceReader(4)
    reader.add(b"ab")
    reader.add(b"cd")
    assert reader.content() == b"abcd"
    with pytest.raises(InvalidInput):
        reader.add(b"e")


@pytest.mark.parametrize(
    ("table", "service"),
    [
        (
            guardian_servicer.ACCESS,
            guardian_pb2.DESCRIPTOR.services_by_name["GuardianService"],
        ),
        (
            ceremony_servicer.ACCESS,
            ceremony_pb2.DESCRIPTOR.services_by_name["CeremonyService"],
        ),
    ],
    ids=["guardian", "ceremony"],
)
def test_every_call_is_for_auditors_only(table: AccessTable, service: object) -> None:
    names = {f"/{service.full_name}/{m.name}" for m in service.methods}  # type: ignore[attr-defined]
    assert set(table) == names | set(STANDARD_METHODS)
    assert all(table[name] == frozenset({Role.AUDITOR}) for name in names)
