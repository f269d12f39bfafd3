"""A storage that keeps what it is told to delete: no receipt is signed for what is still there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_server_rotation import MOVE, NEW, OLD, add_key, moved
from tests.s3_fixtures import S3Server
from tests.s3_keeper import Keeper, keeping
from tests.server_fixtures import unit_vectors
from tests.server_harness import Caller, calling, make_credentials, serving
from underseal_core.errors import Busy
from underseal_proto.v1 import gallery_pb2
from underseal_server.settings import Settings
from underseal_server.store import bucket
from underseal_server.store.bucket import Location
from underseal_server.store.folders import epoch_name

LEFT = epoch_name(MOVE.old.bundle.epoch)


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_credentials(tmp_path_factory.mktemp("credentials"))


@pytest.fixture
def keeper(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    monkeypatch.setattr(bucket, "_RETRIES", 0)
    with keeping(s3.endpoint) as keeper:
        yield keeper


@pytest.fixture
def location(s3: S3Server) -> Location:
    return s3.bucket()


@pytest.fixture
def settings(tmp_path: Path, credentials: Path, location: Location, keeper: Keeper) -> Settings:
    OLD.bundle.save(tmp_path / "bundle.usb")
    return Settings(
        listen="127.0.0.1:0",
        data=tmp_path / "data",
        credentials=credentials / "server",
        bundles=(tmp_path / "bundle.usb",),
        threads=1,
        save_seconds=0.05,
        old_units_seconds=3600,
        objects=location.url,
        objects_endpoint=keeper.endpoint,
        objects_region=location.region,
        objects_key_id=location.key_id,
        objects_secret=location.secret,  # type: ignore[arg-type]  # pydantic wraps it
    )


@pytest.fixture
def agency(settings: Settings, credentials: Path) -> Iterator[Caller]:
    """A client of a gallery with one template, under the second of its key epochs."""
    with (
        serving(settings) as server,
        calling(server.port, credentials / "agency", OLD) as before,
        calling(server.port, credentials / "agency", NEW) as agency,
    ):
        before.create()
        before.enrol(unit_vectors(1))
        yield agency


def move(agency: Caller, settings: Settings) -> None:
    add_key(settings, settings.data.parent)
    moved(agency)


def remove(agency: Caller) -> bytes:
    (entry,) = agency.galleries.ListTemplates(
        gallery_pb2.ListTemplatesRequest(gallery="missing", page_size=10)
    ).templates
    ids = [entry.template_id]
    agency.galleries.RemoveTemplates(
        gallery_pb2.RemoveTemplatesRequest(gallery="missing", template_ids=ids)
    )
    return bytes(entry.template_id)


def signed(agency: Caller) -> bool:
    """Whether there is a receipt of the one removed template."""
    request = gallery_pb2.ListErasuresRequest(gallery="missing")
    try:
        (found,) = agency.galleries.ListErasures(request).erasures
    except Busy as error:
        if "could not be erased from disk yet" not in error.public:
            raise
        return False
    return bool(found.HasField("receipt"))


def kept(s3: S3Server, location: Location, part: str) -> list[str]:
    return [key for key in s3.keys(location) if key.startswith(f"{part}/1/{LEFT}/")]


@pytest.mark.parametrize("status", [503, 403, 200])
def test_a_unit_of_a_key_epoch_that_was_left_stays(
    agency: Caller,
    settings: Settings,
    keeper: Keeper,
    s3: S3Server,
    location: Location,
    status: int,
) -> None:
    move(agency, settings)
    keeper.keeps, keeper.status = f"units/1/{LEFT}/", status
    remove(agency)
    assert keeper.refused and kept(s3, location, "units")
    assert not signed(agency)
    keeper.keeps = ""
    assert signed(agency)
    assert not kept(s3, location, "units")


@pytest.mark.parametrize("status", [503, 403, 200])
def test_a_block_of_a_key_epoch_that_was_left_stays(
    agency: Caller,
    settings: Settings,
    keeper: Keeper,
    s3: S3Server,
    location: Location,
    status: int,
) -> None:
    """The template is in its sum."""
    agency.state()
    keeper.keeps, keeper.status = f"blocks/1/{LEFT}/", status
    move(agency, settings)
    remove(agency)
    assert kept(s3, location, "blocks")
    assert not signed(agency)
    keeper.keeps = ""
    assert signed(agency)
    assert not kept(s3, location, "blocks")
