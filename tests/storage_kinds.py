"""Stores over every kind of catalogue and of file storage, for the tests that hold for all."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from datetime import datetime
from pathlib import Path

import pytest

from tests.archive_fixtures import LAB, NAME, Folder
from tests.postgres_fixtures import Cluster
from tests.s3_fixtures import S3Server
from tests.unit.server.kill_child import Place
from underseal_server.check import Checker
from underseal_server.checking.findings import Report
from underseal_server.engine.keys import KeyEpochs
from underseal_server.store.bucket import Bucket, Location
from underseal_server.store.places import CACHE
from underseal_server.store.records import GallerySpec
from underseal_server.store.store import BUNDLES, Store, utc_now

KINDS = [f"{c}+{f}" for c, f in itertools.product(("sqlite", "postgresql"), ("local", "s3"))]


@pytest.fixture(params=KINDS)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Empty places for stores, of each kind."""
    catalogue, files = request.param.split("+")
    cluster: Cluster | None = None
    server: S3Server | None = None
    if catalogue == "postgresql":
        cluster = request.getfixturevalue("postgres")
    if files == "s3":
        server = request.getfixturevalue("s3")
    return (
        Place(
            str(tmp_path / f"data-{number}"),
            cluster.create() if cluster else "",
            astuple(server.bucket()) if server else (),
        )
        for number in itertools.count()
    )


@pytest.fixture
def place(places: Iterator[Place]) -> Place:
    return next(places)


@contextmanager
def opened(place: Place, now: Callable[[], datetime] = utc_now) -> Iterator[Store]:
    store = place.open(now)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def opened_place(place: Place, now: Callable[[], datetime] = utc_now) -> Iterator[Folder]:
    """Open a place with its keys."""
    with opened(place, now) as store:
        keys = KeyEpochs(store.folder / BUNDLES, 1)
        try:
            yield Folder(store, keys)
        finally:
            keys.close()


def begin(folder: Folder, name: str = NAME) -> None:
    """Add the bundle and create a gallery."""
    path = folder.store.folder / BUNDLES / f"{LAB.bundle.epoch}.usb"
    LAB.bundle.save(path)
    spec = GallerySpec(name, LAB.pin, "agency", frozenset({"agency", "other"}), 3, 400)
    folder.store.galleries.create(spec, "2026-01-01T00:00:00Z")


def checked(place: Place, *, deep: bool = True, repair: bool = False) -> Report:
    """Look at everything, independently."""
    return Checker(
        Path(place.data),
        lambda: None,
        deep=deep,
        threads=1,
        repair=repair,
        catalogue=place.catalogue,
        objects=place.storage(),
    ).run()


def flip(place: Place, part: str) -> str:
    """Flip a bit of the first file of units or blocks, where it is stored; return its name."""
    if not place.objects:
        path = min(path for path in Path(place.data, part).rglob("*") if path.is_file())
        path.write_bytes(_flipped(path.read_bytes()))
        return path.name
    shutil.rmtree(Path(place.data, CACHE))
    bucket, key = Bucket(Location(*place.objects)), ""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        key = min(bucket.under(f"{part}/"))
        bucket.fetch(key, copy)
        copy.write_bytes(_flipped(copy.read_bytes()))
        bucket.put(key, copy)
    return key.rpartition("/")[2]


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
