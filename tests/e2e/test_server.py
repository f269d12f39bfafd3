"""The server over gRPC with mutual TLS: what it does when everybody behaves."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from tests import catalogue_fixtures
from tests.plain_form import unit_digest
from tests.server_fixtures import Lab, labelled, unit_vectors
from tests.server_harness import (
    Caller,
    Found,
    calling,
    ciphertexts,
    make_credentials,
    serving,
    targets,
    unit_parts,
)
from underseal_auditor.wire.catalogue import changes_from_wire
from underseal_core.bundle import PublicBundle
from underseal_core.credentials import Credentials
from underseal_core.errors import Busy, InvalidInput, NotFound, PermissionRefused
from underseal_core.gallery.unit import Shape, usable_slots
from underseal_core.provenance import EnrolReceipt
from underseal_core.scheme.ciphertext import Kind, parse_ciphertext
from underseal_core.snapshot import LiveEntry, snapshot_root
from underseal_core.statements import SearchResult, Targets
from underseal_proto.v1 import gallery_pb2, gallery_pb2_grpc
from underseal_server.api.gallery import FEEDS
from underseal_server.api.serving import running
from underseal_server.settings import Settings

LAB = Lab()


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_credentials(tmp_path_factory.mktemp("credentials"))


@pytest.fixture
def settings(tmp_path: Path, credentials: Path) -> Settings:
    bundle: PublicBundle = LAB.bundle
    bundle.save(tmp_path / "bundle.usb")
    return Settings(
        listen="127.0.0.1:0",
        data=tmp_path / "data",
        credentials=credentials / "server",
        bundles=(tmp_path / "bundle.usb",),
        threads=1,
        save_seconds=0.05,
    )


@pytest.fixture
def people(settings: Settings, credentials: Path) -> Iterator[dict[str, Caller]]:
    """Callers by name, of one running server."""
    with serving(settings) as server, ExitStack() as stack:
        yield {
            name: stack.enter_context(calling(server.port, credentials / name))
            for name in ("agency", "other", "auditor", "operator")
        }


def live_entries(
    feed: Iterable[gallery_pb2.SyncCatalogueResponse], version: int
) -> list[LiveEntry]:
    """What the feed says was live at a version, as auditors read it."""
    parts = [changes_from_wire(part) for part in feed]
    units = {unit.token: unit for part in parts for unit in part.units}
    return [
        catalogue_fixtures.live_entry(units[entry.unit_token], entry)
        for part in parts
        for entry in part.entries
        if units[entry.unit_token].added_version <= version
        and not 0 < entry.removed_version <= version
    ]


def tiles_roots(found: Found) -> dict[int, str]:
    return found.result.snapshot.tiles_roots()


def test_a_gallery_from_creation_to_deletion(people: dict[str, Caller]) -> None:
    agency = people["agency"]
    made = agency.create(writers=["partner"])
    assert (made.templates, made.version, list(made.writers)) == (0, 0, ["agency", "partner"])
    assert agency.create(writers=["partner"]) == made
    agency.create("another")
    listed = people["auditor"].galleries.ListGalleries(
        gallery_pb2.ListGalleriesRequest(page_size=1)
    )
    assert [gallery.name for gallery in listed.galleries] == ["another"]
    rest = gallery_pb2.ListGalleriesRequest(page_token=listed.next_page_token)
    assert [g.name for g in people["operator"].galleries.ListGalleries(rest).galleries] == [
        "missing"
    ]
    delete = gallery_pb2.DeleteGalleryRequest(name="missing")
    agency.create("shared", writers=["other"])
    with pytest.raises(PermissionRefused, match="does not own"):
        people["other"].galleries.DeleteGallery(gallery_pb2.DeleteGalleryRequest(name="shared"))
    agency.galleries.DeleteGallery(delete)
    with pytest.raises(NotFound):
        agency.state()


def test_search_gives_a_score_for_every_template_and_a_signed_result(
    people: dict[str, Caller], credentials: Path
) -> None:
    agency = people["agency"]
    agency.create()
    vectors = unit_vectors(4 + 50)
    _, row = agency.enrol(vectors[:4])
    _, bulk = agency.enrol(vectors[4:], Shape.COLUMNS)
    slots = [
        receipt.first_slot + r * receipt.slot_step
        for receipt in (row, bulk)
        for r in range(receipt.templates)
    ]
    found = people["other"].search(vectors[9])
    scores = people["other"].scores(found)[0]
    assert np.abs(scores[slots] - vectors @ vectors[9]).max() < 2**-9
    server = Credentials.load(credentials / "server").identity.public_key
    result = SearchResult.open(found.envelope, server)
    assert (result.server, result.compared, result.snapshot.templates) == ("server", 54, 54)
    assert result.snapshot.root == agency.state().snapshot_root
    hashes = {entry.block: entry.sha256 for entry in result.blocks}
    assert hashes == {b: hashlib.sha256(data).hexdigest() for b, data in found.blocks.items()}
    assert found.progress[-1].blocks_done == found.progress[-1].blocks_total == 1
    norm = LAB.open(parse_ciphertext(found.norm, LAB.bundle.profile, Kind.NORM))
    assert abs(norm[0] - 1) < 0.01
    assert hashlib.sha256(found.norm).hexdigest() == result.norm_sha256


def test_the_snapshot_root_is_what_the_auditors_compute_from_the_feed(
    people: dict[str, Caller],
) -> None:
    agency = people["agency"]
    agency.create()
    templates, _ = agency.enrol(unit_vectors(300), Shape.COLUMNS)
    agency.enrol(unit_vectors(2))
    gone = templates[0].template_id
    agency.galleries.RemoveTemplates(
        gallery_pb2.RemoveTemplatesRequest(gallery="missing", template_ids=[gone])
    )
    feed = list(
        people["auditor"].galleries.SyncCatalogue(
            gallery_pb2.SyncCatalogueRequest(gallery="missing")
        )
    )
    live = live_entries(feed, 3)
    state, found = agency.state(), agency.search(unit_vectors(1)[0])
    assert len(live) == state.templates == 301
    assert feed[-1].complete_version == state.version == 3
    roots = tiles_roots(found)
    assert snapshot_root("missing", 3, live, roots) == state.snapshot_root
    assert snapshot_root("missing", 3, live, {0: "00" * 32}) != state.snapshot_root
    again = gallery_pb2.SyncCatalogueRequest(gallery="missing", after_version=2)
    changed = [e for part in people["auditor"].galleries.SyncCatalogue(again) for e in part.entries]
    assert [(e.template_id, e.removed_version) for e in changed] == [(gone, 3)]


def test_a_feed_that_is_not_read_does_not_use_up_the_database(people: dict[str, Caller]) -> None:
    """Each holds a connection of a small pool: without a limit they keep out everybody."""
    agency, auditor = people["agency"], people["auditor"]
    agency.create()
    many = labelled(2000)
    for entry in many:
        object.__setattr__(entry, "sealed_label", bytes(4000))
    agency.enrol(unit_vectors(len(many)), Shape.COLUMNS, many)
    feed = gallery_pb2.SyncCatalogueRequest(gallery="missing")
    stub = gallery_pb2_grpc.GalleryServiceStub(auditor.channel)
    unread = [stub.SyncCatalogue(feed, timeout=60) for _ in range(FEEDS)]
    for call in unread:
        next(call)
    with pytest.raises(Busy, match="catalogue feeds"):
        list(auditor.galleries.SyncCatalogue(feed))
    assert agency.state().templates == len(many)
    for call in unread:
        call.cancel()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # the server hears of it a little later
        with suppress(Busy):
            parts = list(auditor.galleries.SyncCatalogue(feed))
            break
    assert sum(len(part.entries) for part in parts) == len(many)


def test_a_version_that_no_database_holds_is_refused(people: dict[str, Caller]) -> None:
    people["agency"].create()
    feed = gallery_pb2.SyncCatalogueRequest(gallery="missing", after_version=2**64 - 1)
    with pytest.raises(InvalidInput, match="no gallery has such a version"):
        list(people["auditor"].galleries.SyncCatalogue(feed))


def test_verify_scores_only_blocks_with_targets(people: dict[str, Caller]) -> None:
    agency = people["agency"]
    agency.create()
    vectors = unit_vectors(usable_slots(LAB.bundle.profile.degree, LAB.bundle.dimension) + 2)
    full, _ = agency.enrol(vectors[:-2], Shape.COLUMNS)
    late, receipt = agency.enrol(vectors[-2:])
    assert receipt.block == 1
    found = agency.search(vectors[-1], targets=targets(subject=late[1].subject_id))
    assert set(found.blocks) == {1}
    assert found.result.compared == 1
    slot = receipt.first_slot + receipt.slot_step
    assert abs(agency.scores(found)[1][slot] - 1) < 2**-9
    both = agency.search(vectors[0], targets=targets(full[0].template_id, late[0].template_id))
    assert set(both.blocks) == {0, 1}
    with pytest.raises(NotFound, match="the template is not enrolled"):
        agency.search(vectors[0], targets=targets(b"\1" * 16))
    names = [entry.subject_id.hex() for entry in full[:999]]
    many = Targets(subject_ids=(*names, late[1].subject_id.hex()))
    found = agency.search(vectors[0], targets=many)
    assert (set(found.blocks), found.result.compared) == ({0, 1}, 1000)
    in_one = agency.search(vectors[0], targets=Targets(subject_ids=tuple(names)))
    assert (set(in_one.blocks), in_one.result.compared) == ({0}, 999)
    with pytest.raises(NotFound, match="1 of the 1000 subjects"):
        agency.search(vectors[0], targets=Targets(subject_ids=(*names, "01" * 16)))
    assert set(agency.search(vectors[0]).blocks) == {0, 1}


def test_templates_are_listed_in_pages_and_removed_by_subject(people: dict[str, Caller]) -> None:
    agency = people["agency"]
    agency.create()
    person = b"p" * 16
    templates, _ = agency.enrol(unit_vectors(3), templates=labelled(3, [person, b"q" * 16, person]))
    pages, token = [], ""
    while True:
        page = agency.galleries.ListTemplates(
            gallery_pb2.ListTemplatesRequest(gallery="missing", page_size=2, page_token=token)
        )
        pages.append([template.template_id for template in page.templates])
        token = page.next_page_token
        if not token:
            break
    assert pages == [[t.template_id for t in templates[:2]], [templates[2].template_id]]
    removed = agency.galleries.RemoveTemplates(
        gallery_pb2.RemoveTemplatesRequest(gallery="missing", subject_id=person)
    )
    assert (removed.removed, removed.gallery_version) == (2, 2)
    left = people["operator"].galleries.ListTemplates(
        gallery_pb2.ListTemplatesRequest(gallery="missing")
    )
    assert [template.enrolled_by for template in left.templates] == ["agency"]


def test_a_unit_sent_twice_is_stored_once(people: dict[str, Caller]) -> None:
    agency = people["agency"]
    agency.create()
    vectors, templates = unit_vectors(2), labelled(2)
    parts = agency.signed(unit_parts(templates, ciphertexts(LAB, vectors, Shape.ROW)))
    first, second = agency.stream([agency.header(), *parts, *parts])
    (third,) = agency.stream([agency.header(), *parts])
    assert not first.repeated_token
    assert second == third
    assert (second.repeated_token, second.first_slot) == (True, first.first_slot)
    assert (agency.state().templates, agency.state().version) == (2, 1)


def test_everything_is_there_after_a_restart(settings: Settings, credentials: Path) -> None:
    vectors = unit_vectors(20)
    with serving(settings) as server, calling(server.port, credentials / "agency") as agency:
        agency.create()
        agency.enrol(vectors[:2])
        agency.enrol(vectors[2:], Shape.COLUMNS)
        before = agency.state()
        first = agency.search(vectors[0])
        request = agency.request(agency.lab.probe(vectors[0]).to_bytes())
    with serving(settings) as server, calling(server.port, credentials / "agency") as agency:
        assert agency.state() == before
        probe = agency.lab.probe(vectors[0]).to_bytes()
        found = agency.ask(agency.request(probe), probe)
        assert np.abs(agency.scores(found)[0] - agency.scores(first)[0]).max() < 2**-8
        assert found.result.request_sha256 != request.sha256()


def test_a_search_speaks_of_exactly_one_version_while_the_gallery_changes(
    people: dict[str, Caller],
) -> None:
    agency, other = people["agency"], people["other"]
    agency.create()
    vectors = unit_vectors(24)
    agency.enrol(vectors[:1])
    slots = [0]

    def enrol_the_rest() -> None:
        for vector in vectors[1:]:
            _, receipt = agency.enrol(vector[None, :])
            slots.append(receipt.first_slot)

    found = []
    with ThreadPoolExecutor(1) as pool:
        enrolling = pool.submit(enrol_the_rest)
        while not enrolling.done():
            found.append(other.search(vectors[0]))
        enrolling.result()
    feed = people["auditor"].galleries.SyncCatalogue(
        gallery_pb2.SyncCatalogueRequest(gallery="missing")
    )
    feed = list(feed)
    assert len({result.result.snapshot.version for result in found}) > 1
    for each in found:
        snapshot = each.result.snapshot
        live = live_entries(feed, snapshot.version)
        root = snapshot_root("missing", snapshot.version, live, tiles_roots(each))
        assert root == snapshot.root
        scores = other.scores(each)[0]
        here = slots[: snapshot.version]
        assert np.abs(scores[here] - vectors[: len(here)] @ vectors[0]).max() < 2**-8
        rest = np.delete(scores, here)
        assert np.abs(rest).max() < 2**-8, "a template of a later version was scored"


def test_a_gallery_is_deleted_under_an_open_enrolment(people: dict[str, Caller]) -> None:
    agency = people["agency"]
    agency.create()

    def parts() -> Iterator[gallery_pb2.EnrolRequest]:
        unit = agency.signed(unit_parts(labelled(1), ciphertexts(LAB, unit_vectors(1), Shape.ROW)))
        yield agency.header()
        yield from unit[:-1]
        agency.galleries.DeleteGallery(gallery_pb2.DeleteGalleryRequest(name="missing"))
        yield unit[-1]

    with pytest.raises(NotFound):
        agency.stream(parts())
    with pytest.raises(NotFound):
        agency.state()


def test_a_gallery_is_deleted_under_a_removal(
    settings: Settings, credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal has looked up its unit and waits for its turn; then the files are gone."""

    def enrolled(port: int) -> list[bytes]:
        with calling(port, credentials / "agency") as agency:
            agency.create()
            made, _ = agency.enrol(unit_vectors(2))
            return [template.template_id for template in made]

    async def main() -> None:
        async with running(settings) as server:
            ids = await asyncio.to_thread(enrolled, server.port)
            hosting = server.hosting
            hosted = await hosting.open("missing")
            units = hosting._store.units
            (unit,) = units.live(hosted.gallery)
            await hosting.delete(hosted.gallery)
            monkeypatch.setattr(units, "by_ids", lambda numbers: [unit])
            with pytest.raises(NotFound, match="no gallery"):
                await hosting.remove(hosted, {unit.id: ids})

    asyncio.run(main())


def test_health_and_reflection_are_served(people: dict[str, Caller]) -> None:
    channel = people["operator"].channel
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "underseal.v1.GalleryService", "underseal.v1.SearchService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert {"underseal.v1.GalleryService", "underseal.v1.SearchService"} <= set(services)


def test_auditors_fetch_units_as_they_were_enrolled(people: dict[str, Caller]) -> None:
    agency, auditor = people["agency"], people["auditor"]
    agency.create()
    vectors = unit_vectors(5)
    columns = ciphertexts(LAB, vectors, Shape.COLUMNS)
    parts = agency.signed(unit_parts(labelled(5), columns, Shape.COLUMNS))
    agency.stream([agency.header(), *parts])
    templates, _ = agency.enrol(vectors[:2])
    feed = gallery_pb2.SyncCatalogueRequest(gallery="missing")
    news = [changes_from_wire(part) for part in auditor.galleries.SyncCatalogue(feed)]
    units = [unit for part in news for unit in part.units]
    for unit in units:
        request = gallery_pb2.FetchUnitRequest(gallery="missing", token=unit.token)
        sent = [part.ciphertext for part in auditor.galleries.FetchUnit(request)]
        assert unit_digest(sent) == unit.sha256
        receipt = EnrolReceipt.open(unit.receipt, agency.credentials.identity.public_key)
        assert (receipt.unit_sha256, receipt.token) == (unit.sha256.hex(), unit.token.hex())
        with pytest.raises(PermissionRefused):
            list(agency.galleries.FetchUnit(request))
        if unit.shape is Shape.COLUMNS:
            assert sent == [column.to_bytes() for column in columns]
    gone = [template.template_id for template in templates]
    remove = gallery_pb2.RemoveTemplatesRequest(gallery="missing", template_ids=gone)
    agency.galleries.RemoveTemplates(remove)
    for token in (units[1].token, bytes(16)):
        request = gallery_pb2.FetchUnitRequest(gallery="missing", token=token)
        with pytest.raises(NotFound):
            list(auditor.galleries.FetchUnit(request))
