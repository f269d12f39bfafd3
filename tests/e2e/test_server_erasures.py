"""Receipts of erasure from a server over gRPC, checked as clients check them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.server_fixtures import Lab, unit_vectors
from tests.server_harness import Caller, calling, make_credentials, serving
from underseal_client.erasures import Erasure, ErasureVerifier
from underseal_client.wire.galleries import erasures_from_wire
from underseal_core.credentials import Credentials
from underseal_core.errors import InvalidInput, NotFound, PermissionRefused
from underseal_core.gallery.unit import Shape
from underseal_core.roster import Roster
from underseal_core.rpc.tls import own_peer
from underseal_proto.v1 import gallery_pb2
from underseal_server.settings import Settings
from underseal_server.store.store import CATALOGUE

LAB = Lab()


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_credentials(tmp_path_factory.mktemp("credentials"))


@pytest.fixture
def settings(tmp_path: Path, credentials: Path) -> Settings:
    LAB.bundle.save(tmp_path / "bundle.usb")
    return Settings(
        listen="127.0.0.1:0",
        data=tmp_path / "data",
        credentials=credentials / "server",
        bundles=(tmp_path / "bundle.usb",),
        threads=1,
        save_seconds=3600,
    )


@pytest.fixture
def people(settings: Settings, credentials: Path) -> Iterator[dict[str, Caller]]:
    with serving(settings) as server, ExitStack() as stack:
        yield {
            name: stack.enter_context(calling(server.port, credentials / name))
            for name in ("agency", "other", "auditor", "operator")
        }


def asked(*ids: bytes, subject: bytes = b"", after: str = "") -> gallery_pb2.ListErasuresRequest:
    return gallery_pb2.ListErasuresRequest(
        gallery="missing", template_ids=ids, subject_id=subject, page_token=after
    )


def verifier(credentials: Path, caller: Caller) -> ErasureVerifier:
    key = Credentials.load(credentials / "server").identity.public_key
    rosters = [Roster.first(LAB.bundle)]
    return ErasureVerifier("missing", lambda epoch: rosters, key, own_peer(caller.credentials))


def checked(
    credentials: Path, caller: Caller, request: gallery_pb2.ListErasuresRequest
) -> list[Erasure]:
    sent, _ = erasures_from_wire(caller.galleries.ListErasures(request))
    return [verifier(credentials, caller).open(one) for one in sent]


def remove(caller: Caller, *ids: bytes) -> int:
    request = gallery_pb2.RemoveTemplatesRequest(gallery="missing", template_ids=ids)
    version: int = caller.galleries.RemoveTemplates(request).gallery_version
    return version


def test_the_last_of_a_unit_is_erased_and_one_of_several_is_not(
    people: dict[str, Caller], settings: Settings, credentials: Path
) -> None:
    """No checkpoint is due for an hour: what is signed for is gone when it is signed for."""
    agency = people["agency"]
    agency.create()
    (alone,), _ = agency.enrol(unit_vectors(1))
    (before,) = settings.data.rglob("*.unit")
    several, _ = agency.enrol(unit_vectors(3), Shape.COLUMNS)
    version = remove(agency, alone.template_id)
    remove(agency, several[1].template_id)
    assert before.exists(), "until a checkpoint without it is saved"
    first, second = checked(credentials, agency, asked())
    assert not before.exists()
    assert first.receipt is not None
    assert first.receipt.template_id == alone.template_id.hex()
    told = (first.receipt.server, first.receipt.how, first.receipt.erased_version)
    assert told == ("server", "unit-deleted", version)
    assert first.receipt.removed_at <= first.receipt.issued_at
    assert (second.template_id, second.receipt) == (several[1].template_id, None)
    assert checked(credentials, agency, asked(subject=alone.subject_id))[0].receipt is not None


def test_archives_that_hold_it_are_named(
    people: dict[str, Caller], settings: Settings, credentials: Path
) -> None:
    agency = people["agency"]
    agency.create()
    (alone,), _ = agency.enrol(unit_vectors(1))
    held = (1, "ab" * 16, "missing", 1, "0" * 64, "1" * 64, "2026-01-01T00:00:00Z")
    with closing(sqlite3.connect(settings.data / CATALOGUE)) as catalogue, catalogue:
        catalogue.execute("INSERT INTO archives VALUES (?, ?, ?, ?, ?, ?, ?)", held)
    remove(agency, alone.template_id)
    (found,) = checked(credentials, agency, asked(alone.template_id))
    assert found.receipt is not None
    assert [one.archive_id for one in found.receipt.archives] == ["ab" * 16]
    assert found.receipt.archives_count == 1


def test_pages_go_on_where_they_ended(people: dict[str, Caller], credentials: Path) -> None:
    agency = people["agency"]
    agency.create()
    made, _ = agency.enrol(unit_vectors(21), Shape.COLUMNS)
    remove(agency, *(template.template_id for template in made))
    page = agency.galleries.ListErasures(asked())
    rest = agency.galleries.ListErasures(asked(after=page.next_page_token))
    ids = [one.template_id for one in (*page.erasures, *rest.erasures)]
    assert (ids, rest.next_page_token) == ([one.template_id for one in made], "")


def test_who_may_not_ask_and_what_may_not_be_asked(people: dict[str, Caller]) -> None:
    agency = people["agency"]
    agency.create()
    made, _ = agency.enrol(unit_vectors(2))
    remove(agency, made[0].template_id)
    for name in ("other", "auditor", "operator"):
        with pytest.raises(PermissionRefused):
            people[name].galleries.ListErasures(asked())
    with pytest.raises(NotFound, match="is not removed"):
        agency.galleries.ListErasures(asked(made[1].template_id))
    with pytest.raises(InvalidInput):
        agency.galleries.ListErasures(asked(made[0].template_id, subject=made[0].subject_id))
    for place in ("x", "-1"):
        with pytest.raises(InvalidInput, match="page token"):
            agency.galleries.ListErasures(asked(after=place))


def test_a_changed_receipt_is_refused(people: dict[str, Caller], credentials: Path) -> None:
    agency = people["agency"]
    agency.create()
    (alone,), _ = agency.enrol(unit_vectors(1))
    remove(agency, alone.template_id)
    ((sent,), _) = erasures_from_wire(agency.galleries.ListErasures(asked()))
    assert sent.receipt is not None
    payload = sent.receipt.payload.replace(b"unit-deleted", b"unit_deleted")
    changed = replace(sent, receipt=replace(sent.receipt, payload=payload))
    with pytest.raises(PermissionRefused, match="not signed"):
        verifier(credentials, agency).open(changed)
