"""What a server says over gRPC of labels, retention and erasure, over every kind of store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import storage_kinds
from tests.server_fixtures import Lab, unit_vectors
from tests.server_harness import Caller, calling, make_credentials, serving
from tests.server_relabelling import relabelling, shown
from tests.storage_kinds import checked
from tests.unit.server.kill_child import Place
from underseal_client.erasures import Erasure, ErasureVerifier
from underseal_client.wire.galleries import erasures_from_wire
from underseal_core.credentials import Credentials
from underseal_core.errors import NotFound
from underseal_core.gallery.unit import Shape
from underseal_core.roster import Roster
from underseal_core.rpc.tls import own_peer
from underseal_core.statements import utc_moment, utc_text
from underseal_proto.v1 import gallery_pb2
from underseal_server.settings import Settings
from underseal_server.store.store import utc_now

LAB = Lab()
places = storage_kinds.places
place = storage_kinds.place


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_credentials(tmp_path_factory.mktemp("credentials"))


@pytest.fixture
def settings(tmp_path: Path, credentials: Path, place: Place) -> Settings:
    LAB.bundle.save(tmp_path / "bundle.usb")
    url, endpoint, region, key, secret = place.objects or [""] * 5
    return Settings.model_validate(
        {
            "listen": "127.0.0.1:0",
            "data": place.data,
            "credentials": credentials / "server",
            "bundles": (tmp_path / "bundle.usb",),
            "threads": 1,
            "save_seconds": 3600,
            "catalogue": place.catalogue,
            "objects": url,
            "objects_endpoint": endpoint,
            "objects_region": region,
            "objects_key_id": key,
            "objects_secret": secret,
        }
    )


@pytest.fixture
def verifier(credentials: Path) -> ErasureVerifier:
    key = Credentials.load(credentials / "server").identity.public_key
    rosters = [Roster.first(LAB.bundle)]
    agency = own_peer(Credentials.load(credentials / "agency"))
    return ErasureVerifier("missing", lambda _: rosters, key, agency)


def erasures(caller: Caller, verifier: ErasureVerifier) -> Iterator[Erasure]:
    request = gallery_pb2.ListErasuresRequest(gallery="missing")
    sent, _ = erasures_from_wire(caller.galleries.ListErasures(request))
    return (verifier.open(one) for one in sent)


def listed(caller: Caller) -> set[bytes]:
    request = gallery_pb2.ListTemplatesRequest(gallery="missing", page_size=2)
    found: set[bytes] = set()
    while True:
        page = caller.galleries.ListTemplates(request)
        found |= {one.template_id for one in page.templates}
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def test_labels_retention_and_receipts_of_erasure(
    settings: Settings, credentials: Path, verifier: ErasureVerifier, place: Place
) -> None:
    end = utc_text(utc_now().replace(year=2099))
    with ExitStack() as stack:
        server = stack.enter_context(serving(settings))
        agency = stack.enter_context(calling(server.port, credentials / "agency"))
        agency.create()
        leaving, _ = agency.enrol(unit_vectors(2), keep_until=end)
        staying, _ = agency.enrol(unit_vectors(3), Shape.COLUMNS)
        ids = [one.template_id for one in staying]
        new = relabelling(agency, shown(agency, *ids), {ids[1]: b"sealed anew"}, end)
        agency.galleries.Relabel(new)
        request = gallery_pb2.RemoveTemplatesRequest(gallery="missing", template_ids=ids[:1])
        agency.galleries.RemoveTemplates(request)
        (waiting,) = erasures(agency, verifier)
        assert (waiting.template_id, waiting.receipt) == (ids[0], None), "others are in the unit"
    # Opened again when the time of the first unit is over.
    with ExitStack() as stack:
        server = stack.enter_context(serving(settings, lambda: utc_moment("2099-12-31T23:59:59Z")))
        agency = stack.enter_context(calling(server.port, credentials / "agency"))
        assert listed(agency) == set(ids[1:])
        told = {one.template_id: one.receipt for one in erasures(agency, verifier)}
        assert told.keys() == {ids[0], *(one.template_id for one in leaving)}
        for one in leaving:
            receipt = told[one.template_id]
            assert receipt is not None
            assert receipt.how == "unit-deleted"
        with pytest.raises(NotFound):
            shown(agency, leaving[0].template_id)
        hashes = {leaf.template_id: leaf.label_sha256 for leaf in shown(agency, *ids[1:]).leaves}
        assert hashes[ids[1]] == hashlib.sha256(b"sealed anew").digest()
        assert hashes[ids[2]] == hashlib.sha256(staying[2].sealed_label).digest()
    assert checked(place).problems == []
