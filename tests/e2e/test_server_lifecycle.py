"""Templates that come, change and go: what a server does with them over the years."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.server_fixtures import Lab, Vectors, unit_vectors
from tests.server_harness import Caller, Found, calling, make_credentials, serving
from underseal_auditor.wire.catalogue import changes_from_wire
from underseal_core.errors import InvalidInput, NotFound
from underseal_core.gallery.unit import Shape
from underseal_core.statements import utc_text
from underseal_proto.v1 import gallery_pb2
from underseal_server.settings import Settings

LAB = Lab()
NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
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
    times = {"issued_at": utc_text(now), "expires_at": utc_text(now + timedelta(minutes=5))}
    return caller.search(vector, **times)


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
