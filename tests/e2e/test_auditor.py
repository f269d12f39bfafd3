"""Registrar and server over gRPC with mutual TLS."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.auditor_place import (
    SEALED,
    Desk,
    Place,
    ask,
    deployed,
    parts_of,
    translated,
)
from underseal_core.errors import (
    Busy,
    Conflict,
    InvalidInput,
    MalformedCiphertext,
    PermissionRefused,
    UndersealError,
)
from underseal_core.statements import Release
from underseal_proto.v1 import gallery_pb2, registrar_pb2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with deployed(tmp_path_factory.mktemp("auditor")) as made:
        yield made


@pytest.fixture
def desks(place: Place) -> Iterator[Callable[[str], Desk]]:
    with ExitStack() as stack:
        yield lambda name: Desk(place, name, stack)


@pytest.fixture
def agency(desks: Callable[[str], Desk]) -> Desk:
    return desks("agency")


def test_from_sealed_result_to_release(place: Place, agency: Desk) -> None:
    asked = ask(place, place.vectors[4])
    envelope = agency.submit(asked.parts)
    release = Release.open(envelope, place.lab.bundle.members[0])
    (match,) = release.matches
    assert match.templates[0].template_id == place.templates[4].template_id.hex()
    assert json.loads(match.templates[0].label) == {"name": "person-4"}
    assert abs(float(match.score) - 1) <= 0.011
    assert release.request_sha256 == asked.request.sha256()
    assert agency.submit(asked.parts) == envelope
    assert agency.release(asked.request.request_id) == envelope


def test_removed_template_is_gone_from_the_next_release(place: Place, agency: Desk) -> None:
    asked = ask(place, place.vectors[7])
    removal = gallery_pb2.RemoveTemplatesRequest(
        gallery="missing", template_ids=[place.templates[7].template_id]
    )
    place.server.galleries.RemoveTemplates(removal)
    for submitted in (asked, ask(place, place.vectors[7])):
        release = Release.parse(agency.submit(submitted.parts).payload)
        assert release.matches == ()


def test_other_clients_get_nothing(place: Place, desks: Callable[[str], Desk]) -> None:
    asked = ask(place, place.vectors[1])
    desks("agency").submit(asked.parts)
    other = desks("other")
    with pytest.raises(PermissionRefused, match="does not name this client"):
        other.submit(asked.parts)
    with pytest.raises(PermissionRefused, match="does not name this client"):
        other.release(asked.request.request_id)


@pytest.mark.parametrize("name", ["server", "auditor", "operator"])
def test_other_roles_do_not_submit(place: Place, desks: Callable[[str], Desk], name: str) -> None:
    with pytest.raises(PermissionRefused, match=f"role {name}"):
        desks(name).submit(ask(place, place.vectors[0]).parts)
    with pytest.raises(PermissionRefused, match=f"role {name}"):
        desks(name).release("0" * 32)


@pytest.mark.parametrize("name", ["agency", "operator", "auditor", "server"])
def test_everyone_reads_the_policy(place: Place, desks: Callable[[str], Desk], name: str) -> None:
    answer = desks(name).stub.GetPolicy(registrar_pb2.GetPolicyRequest(), timeout=60)
    assert answer.policy_toml == (place.root / "policy.toml").read_bytes()


def test_health(agency: Desk) -> None:
    request = health_pb2.HealthCheckRequest(service="underseal.v1.RegistrarService")
    answer = health_pb2_grpc.HealthStub(agency.channel).Check(request, timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def sealed(kind: int, data: bytes, block: int = 0) -> registrar_pb2.SubmitRequest:
    entry = SEALED(kind=kind, block=block, ciphertext=data)  # type: ignore[arg-type]  # by number
    return registrar_pb2.SubmitRequest(sealed=entry)


def test_submissions_that_are_wrong_on_the_wire(place: Place, agency: Desk) -> None:
    asked = ask(place, place.vectors[0])
    header, probe, *rest = asked.parts
    cut = sealed(SEALED.KIND_PROBE, asked.probe[:-1])
    wrong: list[tuple[list[registrar_pb2.SubmitRequest], type[UndersealError]]] = [
        ([], InvalidInput),
        ([probe, *rest], InvalidInput),
        ([header], InvalidInput),
        ([header, header], InvalidInput),
        ([header, probe, probe], InvalidInput),
        ([header, probe, *rest[:-1]], InvalidInput),
        ([header, sealed(SEALED.KIND_RESULT, asked.found.blocks[0], block=9)], InvalidInput),
        ([header, sealed(77, asked.probe)], InvalidInput),
        ([header, cut], MalformedCiphertext),
        ([header, sealed(SEALED.KIND_NORM, asked.found.blocks[0])], MalformedCiphertext),
    ]
    for parts, error in wrong:
        with pytest.raises(error) as raised:
            agency.submit(parts)
        assert type(raised.value) is error
    assert len(Release.parse(agency.submit(asked.parts).payload).matches) == 1


def test_request_id_with_other_content(place: Place, agency: Desk) -> None:
    asked = ask(place, place.vectors[0])
    agency.submit(asked.parts)
    probe = place.lab.probe(place.vectors[1]).to_bytes()
    with pytest.raises(Conflict):
        place.server.ask(place.server.request(probe, request_id=asked.request.request_id), probe)
    changed = asked.request.model_copy(update={"case_reference": "another"})
    with pytest.raises(InvalidInput, match="answers another request"):
        agency.submit(parts_of(place, changed, asked.found, asked.probe))


def test_purpose_that_the_policy_does_not_have(place: Place, agency: Desk) -> None:
    with pytest.raises(PermissionRefused, match="no purpose"):
        agency.submit(ask(place, place.vectors[0], purpose="curiosity").parts)


def test_one_client_does_not_take_every_place(place: Place, desks: Callable[[str], Desk]) -> None:
    """Three submissions of the agency hang half-way: one is refused, others' would not be."""
    asked = ask(place, place.vectors[0])
    go_on = threading.Event()
    ended: SimpleQueue[Any] = SimpleQueue()

    def hanging() -> Iterator[registrar_pb2.SubmitRequest]:
        yield asked.parts[0]
        go_on.wait(60)

    agency = desks("agency")
    calls = [agency.stub.Submit.future(hanging(), timeout=60) for _ in range(3)]
    for call in calls:
        call.add_done_callback(ended.put)
    try:
        refused = ended.get(timeout=60)
        calls.remove(refused)
        with pytest.raises(Busy, match="busy"):
            translated(refused.result)
        assert ended.empty()
    finally:
        go_on.set()
    for call in calls:
        with pytest.raises(InvalidInput, match="missing"):
            translated(call.result)
    assert Release.parse(agency.submit(asked.parts).payload).matches


def test_who_may_not_submit_takes_no_place(place: Place, desks: Callable[[str], Desk]) -> None:
    """Silent streams of a client that no policy names: as many as there are places."""
    go_on = threading.Event()
    sent = [threading.Event() for _ in range(8)]

    def silent(begun: threading.Event) -> Iterator[registrar_pb2.SubmitRequest]:
        begun.set()
        go_on.wait(60)
        yield from ()

    strangers = desks("other")
    calls = [strangers.stub.Submit.future(silent(begun), timeout=60) for begun in sent]
    assert all(begun.wait(60) for begun in sent)
    try:
        with pytest.raises(PermissionRefused, match="does not name this client"):
            strangers.submit(ask(place, place.vectors[0]).parts)
        asked = ask(place, place.vectors[0])
        assert Release.parse(desks("agency").submit(asked.parts).payload).matches
    finally:
        go_on.set()
    for call in calls:
        with pytest.raises(InvalidInput, match="empty"):
            translated(call.result)
