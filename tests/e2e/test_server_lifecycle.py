"""Templates that come, change and go: what a server does with them over the years."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.server_fixtures import Lab, Vectors, labelled, unit_vectors
from tests.server_harness import Caller, Found, calling, make_credentials, serving
from tests.server_relabelling import relabelling, shown
from underseal_auditor.wire.catalogue import changes_from_wire
from underseal_core.errors import Conflict, InvalidInput, NotFound, PermissionRefused
from underseal_core.gallery.unit import Shape
from underseal_core.provenance import EnrolReceipt
from underseal_core.statements import utc_text
from underseal_proto.v1 import gallery_pb2
from underseal_server.settings import Settings
from underseal_server.store.records import NewTemplate

LAB = Lab()
NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
SIGNED = utc_text(NOW)
SOON = 30.0


@dataclass
class Clock:
    """A clock that tests move."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Place:
    """A data folder, its credentials, and the clock of its servers."""

    settings: Settings
    credentials: Path
    clock: Clock = field(default_factory=Clock)

    @contextmanager
    def open(self) -> Iterator[dict[str, Caller]]:
        """Callers by name, of one running server."""
        with serving(self.settings, self.clock) as server, ExitStack() as stack:
            yield {
                name: stack.enter_context(calling(server.port, self.credentials / name))
                for name in ("agency", "other", "auditor")
            }


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_credentials(tmp_path_factory.mktemp("credentials"))


@pytest.fixture
def place(tmp_path: Path, credentials: Path) -> Place:
    LAB.bundle.save(tmp_path / "bundle.usb")
    settings = Settings(
        listen="127.0.0.1:0",
        data=tmp_path / "data",
        credentials=credentials / "server",
        bundles=(tmp_path / "bundle.usb",),
        threads=1,
        save_seconds=0.05,
    )
    return Place(settings, credentials)


@pytest.fixture
def people(place: Place) -> Iterator[dict[str, Caller]]:
    with place.open() as callers:
        yield callers


def in_days(days: int) -> str:
    return utc_text(NOW + timedelta(days=days))


def listed(caller: Caller, **asked: object) -> list[gallery_pb2.Template]:
    request = gallery_pb2.ListTemplatesRequest(gallery="missing", **asked)  # type: ignore[arg-type]  # by name
    return list(caller.galleries.ListTemplates(request).templates)


def searched(caller: Caller, vector: Vectors, now: datetime) -> Found:
    """Search, by the server's clock."""
    return caller.search(vector, **times(now))


def settled(caller: Caller, templates: int) -> None:
    """Wait until the gallery has so many templates."""
    end = time.monotonic() + SOON
    while caller.state().templates != templates:
        assert time.monotonic() < end, f"{caller.state().templates} templates, not {templates}"
        time.sleep(0.02)


def test_templates_leave_by_themselves_when_their_time_is_over(
    place: Place, people: dict[str, Caller]
) -> None:
    """Rows and columns, and only those: the feed, a list and a search no longer have them."""
    agency, vectors = people["agency"], unit_vectors(9)
    agency.create()
    row, _ = agency.enrol(vectors[:2], keep_until=in_days(30))
    columns, _ = agency.enrol(vectors[2:5], Shape.COLUMNS, keep_until=in_days(30))
    agency.enrol(vectors[5:7], keep_until=in_days(31))
    agency.enrol(vectors[7:])
    place.clock.now = NOW + timedelta(days=30) - timedelta(seconds=1)
    assert agency.state().templates == 9
    assert {entry.keep_until for entry in listed(agency)} == {in_days(30), in_days(31), ""}
    place.clock.now = NOW + timedelta(days=30)
    settled(agency, 4)
    assert {entry.keep_until for entry in listed(agency)} == {in_days(31), ""}
    feed = people["auditor"].galleries.SyncCatalogue(
        gallery_pb2.SyncCatalogueRequest(gallery="missing")
    )
    entries = [entry for part in feed for entry in changes_from_wire(part).entries]
    gone = {entry.template_id for entry in entries if entry.removed_version}
    assert gone == {template.template_id for template in (*row, *columns)}
    assert not any(entry.sealed_label for entry in entries if entry.removed_version)
    assert searched(agency, vectors[0], place.clock.now).result.compared == 4


def test_what_is_due_is_gone_before_a_started_server_answers(place: Place) -> None:
    with place.open() as people:
        people["agency"].create()
        people["agency"].enrol(unit_vectors(2), keep_until=in_days(1))
    place.clock.now = NOW + timedelta(days=2)
    place.settings = place.settings.model_copy(update={"save_seconds": 3600.0})
    with place.open() as people:
        assert people["agency"].state().templates == 0
        assert listed(people["agency"]) == []
        with pytest.raises(NotFound):
            people["agency"].galleries.RemoveTemplates(
                gallery_pb2.RemoveTemplatesRequest(gallery="missing", subject_id=bytes(16))
            )


@pytest.mark.parametrize(
    ("days", "text"), [(None, "at most 30 days"), (31, "at most 30 days"), (0, "past the time")]
)
def test_a_gallery_with_a_longest_time_takes_nothing_for_longer(
    people: dict[str, Caller], days: int | None, text: str
) -> None:
    agency = people["agency"]
    assert agency.create(max_keep_days=30).max_keep_days == 30
    until = "" if days is None else in_days(days)
    with pytest.raises(InvalidInput, match=text):
        agency.enrol(unit_vectors(1), keep_until=until)
    assert agency.state().version == 0
    agency.enrol(unit_vectors(1), keep_until=in_days(30))
    assert agency.state().templates == 1


def test_a_gallery_keeps_nothing_for_a_thousand_years(people: dict[str, Caller]) -> None:
    with pytest.raises(InvalidInput, match="36525 days"):
        people["agency"].create(max_keep_days=365_250)


@pytest.mark.parametrize("shape", [Shape.ROW, Shape.COLUMNS])
def test_labels_change_and_auditors_hear_of_it(people: dict[str, Caller], shape: Shape) -> None:
    agency, auditor = people["agency"], people["auditor"]
    agency.create(writers=["other"])
    made, _ = agency.enrol(unit_vectors(3), shape)
    ids = [template.template_id for template in made]
    unit, before = shown(agency, ids[1]), agency.state()
    assert [leaf.template_id for leaf in unit.leaves] == ids
    change = relabelling(agency, unit, {ids[1]: b"new", ids[2]: b"other"}, SIGNED)
    version = agency.galleries.Relabel(change).gallery_version
    assert version == before.version + 1 == agency.state().version
    assert agency.galleries.Relabel(change).gallery_version == version, "the same, repeated"
    feed = gallery_pb2.SyncCatalogueRequest(gallery="missing", after_version=before.version)
    parts = [changes_from_wire(part) for part in auditor.galleries.SyncCatalogue(feed)]
    (heard,) = [unit for part in parts for unit in part.relabelled]
    assert heard.version == version
    assert EnrolReceipt.open(heard.receipt, agency.credentials.identity.public_key).revision == 1
    labels = {e.template_id: e.sealed_label for part in parts for e in part.entries}
    assert labels == {ids[1]: b"new", ids[2]: b"other"}
    whole = auditor.galleries.SyncCatalogue(gallery_pb2.SyncCatalogueRequest(gallery="missing"))
    parts = [changes_from_wire(part) for part in whole]
    assert not any(part.relabelled for part in parts), "the unit comes with its last receipt"
    (anew,) = [unit for part in parts for unit in part.units]
    assert anew.receipt == heard.receipt


def test_labels_are_changed_by_who_enrolled_and_nothing_else_is(people: dict[str, Caller]) -> None:
    agency, other = people["agency"], people["other"]
    agency.create(writers=["other"])
    made, _ = agency.enrol(unit_vectors(3), Shape.COLUMNS)
    strange, _ = agency.enrol(unit_vectors(1))
    ids = [template.template_id for template in made]
    gone = gallery_pb2.RemoveTemplatesRequest(gallery="missing", template_ids=[ids[0]])
    agency.galleries.RemoveTemplates(gone)
    unit, version = shown(agency, ids[1]), agency.state().version
    new = {ids[1]: b"new"}
    wrong = [
        (PermissionRefused, "another client", relabelling(other, unit, new, SIGNED)),
        (InvalidInput, "client differs", relabelling(other, unit, new, SIGNED, client="other")),
        (InvalidInput, "keep_until", relabelling(agency, unit, new, SIGNED, keep_until=in_days(9))),
        (InvalidInput, "unit_sha256", relabelling(agency, unit, new, SIGNED, unit_sha256="0" * 64)),
        (
            InvalidInput,
            "these labels",
            relabelling(agency, unit, new, SIGNED, templates_root="0" * 64),
        ),
        (Conflict, "meanwhile", relabelling(agency, unit, new, SIGNED, revision=2)),
        (NotFound, "removed", relabelling(agency, unit, {ids[0]: b"of a removed one"}, SIGNED)),
        (
            NotFound,
            "this unit",
            relabelling(agency, unit, {strange[0].template_id: b"new"}, SIGNED),
        ),
        (NotFound, "no live unit", relabelling(agency, unit, new, SIGNED, token="0" * 32)),
        (InvalidInput, "1 to 256", relabelling(agency, unit, {}, SIGNED)),
        (InvalidInput, "sealed label", relabelling(agency, unit, {ids[1]: b""}, SIGNED)),
    ]
    for kind, text, request in wrong:
        caller = other if "client" in text else agency
        with pytest.raises(kind, match=text):
            caller.galleries.Relabel(request)
    assert agency.state().version == version
    assert shown(agency, ids[1]) == unit


def ids_of(made: list[NewTemplate]) -> set[bytes]:
    return {template.template_id for template in made}


def test_templates_are_listed_and_counted_by_what_they_have_in_common(
    place: Place, people: dict[str, Caller]
) -> None:
    agency, other, vectors = people["agency"], people["other"], unit_vectors(7)
    agency.create(writers=["other"])
    old, _ = agency.enrol(vectors[:2])
    place.clock.now = NOW + timedelta(days=1)
    new, receipt = agency.enrol(vectors[2:5], Shape.COLUMNS, keep_until=in_days(3))
    theirs, _ = other.enrol(vectors[5:])
    until = in_days(1)

    def matching(**where: object) -> set[bytes]:
        """What a filter finds in pages of two, as many as it says there are."""
        found, token = [], ""
        while True:
            request = gallery_pb2.ListTemplatesRequest(
                gallery="missing",
                page_size=2,
                page_token=token,
                filter=gallery_pb2.TemplateFilter(**where),  # type: ignore[arg-type]  # by name
                count=True,
            )
            page = other.galleries.ListTemplates(request)
            found += [entry.template_id for entry in page.templates]
            token = page.next_page_token
            if not token:
                assert page.matching == len(found) == len(set(found))
                return set(found)

    assert matching() == ids_of(old) | ids_of(new) | ids_of(theirs)
    assert matching(enrolled_before=until) == ids_of(old)
    assert matching(enrolled_from=until) == ids_of(new) | ids_of(theirs)
    assert matching(enrolled_by="other") == ids_of(theirs)
    assert matching(enrolled_from=until, enrolled_by="agency") == ids_of(new)
    assert matching(unit_token=receipt.token) == ids_of(new)
    assert matching(past_their_time=True) == set()
    for wrong in ({"enrolled_from": "yesterday"}, {"unit_token": b"x"}, {"enrolled_by": "No One"}):
        with pytest.raises(InvalidInput):
            matching(**wrong)


def test_a_gallery_is_counted_when_that_is_asked_for(
    place: Place, people: dict[str, Caller]
) -> None:
    agency = people["agency"]
    agency.create()
    ask = gallery_pb2.GetGalleryRequest(name="missing", statistics=True)

    def counted() -> gallery_pb2.GalleryStatistics:
        found = agency.galleries.GetGallery(ask).gallery.statistics
        assert isinstance(found, gallery_pb2.GalleryStatistics)
        return found

    assert not agency.state().HasField("statistics")
    assert counted() == gallery_pb2.GalleryStatistics()
    same = bytes(range(16))
    made, _ = agency.enrol(unit_vectors(3), templates=labelled(3, [same, same, bytes(16)]))
    place.clock.now = NOW + timedelta(hours=1)
    agency.enrol(unit_vectors(1), keep_until=in_days(9))
    gone = gallery_pb2.RemoveTemplatesRequest(gallery="missing", template_ids=[made[2].template_id])
    agency.galleries.RemoveTemplates(gone)
    assert counted() == gallery_pb2.GalleryStatistics(
        active=3,
        removed=1,
        subjects=2,
        oldest_enrolled_at=utc_text(NOW),
        newest_enrolled_at=utc_text(place.clock.now),
        next_keep_until=in_days(9),
    )


def test_a_removed_template_is_in_no_search_that_begins_afterwards(
    people: dict[str, Caller],
) -> None:
    """Out of the snapshot, and a whole unit out of the block: its slot scores nothing."""
    agency, vectors = people["agency"], unit_vectors(3)
    agency.create()
    made, receipt = agency.enrol(vectors[:1])
    agency.enrol(vectors[1:])
    before = agency.search(vectors[0], **times())
    assert before.result.compared == 3
    assert agency.scores(before)[0][receipt.first_slot] > 0.99
    gone = gallery_pb2.RemoveTemplatesRequest(gallery="missing", template_ids=ids_of(made))
    assert agency.galleries.RemoveTemplates(gone).removed == 1
    after = agency.search(vectors[0], **times())
    assert after.result.compared == 2
    assert after.result.snapshot.version == before.result.snapshot.version + 1
    assert abs(agency.scores(after)[0][receipt.first_slot]) < 0.01


def times(now: datetime = NOW) -> dict[str, str]:
    """Of a request, by the server's clock."""
    return {"issued_at": utc_text(now), "expires_at": utc_text(now + timedelta(minutes=5))}
