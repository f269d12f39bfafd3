"""Whoever holds the storage, the local copies or another server: they change what is not theirs."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from tests import store_fixtures
from tests.postgres_fixtures import Cluster
from tests.s3_fixtures import S3Server
from tests.server_fixtures import unit_vectors
from tests.store_fixtures import LAB, opened
from tests.unit.server.kill_child import Place
from underseal_core.errors import Damaged, InvalidInput
from underseal_core.gallery.block_file import read_header, write_block
from underseal_core.gallery.files import local_file
from underseal_core.gallery.tiles import tiles_root
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.evaluation import Evaluator, tiles_shape
from underseal_server.store.bucket import Bucket, Location
from underseal_server.store.cache import Cache
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.postgresql import PostgresDatabase
from underseal_server.store.records import NewUnit
from underseal_server.store.schema import requests
from underseal_server.store.store import Store

evaluator = store_fixtures.evaluator


@pytest.fixture
def location(s3: S3Server) -> Location:
    return s3.bucket()


@pytest.fixture
def place(location: Location, tmp_path: Path) -> Place:
    return Place(str(tmp_path / "data"), objects=astuple(location))


def enrol(gallery: GalleryStore) -> NewUnit:
    _, unit = store_fixtures.enrol(gallery, Shape.ROW, unit_vectors(1))
    return unit


def key_of(s3: S3Server, location: Location, end: str) -> str:
    (key,) = (key for key in s3.keys(location) if key.endswith(end))
    return key


def test_a_unit_exchanged_in_the_bucket_is_never_used(
    s3: S3Server, location: Location, place: Place, evaluator: Evaluator, tmp_path: Path
) -> None:
    """A well-formed ciphertext of somebody else in its place."""
    with closing(place.open()) as store:
        gallery = opened(store, evaluator)
        unit = enrol(gallery)
        other = tmp_path / "other"
        other.write_bytes(LAB.row(unit_vectors(1, seed=5)).to_bytes())
        Bucket(location).put(key_of(s3, location, ".unit"), other)
        shutil.rmtree(tmp_path / "data/cache")
        (tmp_path / "data/cache").mkdir()
        stored = store.units.by_token(gallery.gallery, unit.token)
        assert stored is not None
        with pytest.raises(Damaged, match="stored unit is damaged"):
            list(gallery.files.ciphertexts(stored))


def test_a_block_exchanged_in_the_bucket_is_noticed_at_the_next_view(
    s3: S3Server, location: Location, place: Place, evaluator: Evaluator, tmp_path: Path
) -> None:
    """Everybody taken out of it, with checksums that fit: this version had another root."""
    with closing(place.open()) as store:
        gallery = opened(store, evaluator)
        enrol(gallery)
        gallery.checkpoint()
        gallery.view()
    key, copy = key_of(s3, location, ".tiles"), tmp_path / "0.tiles"
    bucket = Bucket(location)
    bucket.fetch(key, copy)
    header, _ = read_header(local_file(copy))
    tiles = np.zeros(tiles_shape(evaluator.profile, evaluator.dimension), dtype=np.uint32)
    write_block(local_file(copy), replace(header, tiles_root=tiles_root(tiles)), tiles)
    bucket.put(key, copy)
    with closing(place.open()) as store, pytest.raises(Damaged, match="not what it was"):
        opened(store, evaluator).view()


def test_an_older_block_in_the_cache_is_not_taken_for_the_one_in_the_bucket(
    s3: S3Server, location: Location, place: Place, evaluator: Evaluator, tmp_path: Path
) -> None:
    """The cache of an hour ago is put back: copies are bound to the version of the object."""
    data, old = tmp_path / "data", tmp_path / "old"
    with closing(place.open()) as store:
        gallery = opened(store, evaluator)
        enrol(gallery)
        gallery.checkpoint()
        shutil.copytree(data / "cache", old)
        unit = enrol(gallery)
        gallery.checkpoint()
        view, tiles = gallery.view(), np.array(gallery.tiles(0))
    shutil.rmtree(data / "cache")
    shutil.copytree(old, data / "cache")
    with closing(place.open()) as store:
        blocks = store.folders(store.galleries.get("missing")).blocks
        with blocks.open("0.tiles") as file:
            assert unit.token.hex().encode() in file.read(1 << 16)
        gallery = opened(store, evaluator)
        assert gallery.view() == view
        assert np.array_equal(gallery.tiles(0), tiles)


def test_a_changed_local_copy_is_not_served(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1 << 20)
    part = cache.part()
    part.write_bytes(b"what was stored")
    cache.add("key", "version", part).close()
    (copy,) = tmp_path.iterdir()
    copy.write_bytes(b"What was stored")
    assert cache.open("key", "version") is None
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_would_keep_what_is_erased_is_refused(s3: S3Server) -> None:
    with pytest.raises(InvalidInput, match="keeps old versions"):
        Bucket(s3.bucket(versioned=True)).claim("a" * 32, fresh=True)


def test_a_wrong_catalogue_deletes_nothing(
    s3: S3Server, location: Location, place: Place, evaluator: Evaluator, tmp_path: Path
) -> None:
    """A fresh one over the objects, or the files, of another."""
    with closing(place.open()) as store:
        enrol(opened(store, evaluator))
    keys = s3.keys(location)
    with pytest.raises(InvalidInput, match="another catalogue"):
        Place(str(tmp_path / "fresh"), objects=place.objects).open()
    assert s3.keys(location) == keys
    local = tmp_path / "local"
    with closing(Store(local)) as store:
        enrol(opened(store, evaluator))
    (local / "catalogue.sqlite").unlink()
    before = sorted(local.rglob("*.unit"))
    with pytest.raises(InvalidInput, match="another catalogue"):
        Store(local)
    assert sorted(local.rglob("*.unit")) == before != []


def test_a_server_that_was_replaced_answers_and_writes_nothing(postgres: Cluster) -> None:
    """Its session was ended, another server was there, and has gone."""
    url = postgres.create()
    first = PostgresDatabase(url)
    with postgres.connect("postgres") as admin:
        query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
        admin.execute(query, (sa.make_url(url).database,))
    PostgresDatabase(url).close()
    with pytest.raises(Damaged, match="taken over"), first.reading() as connection:
        connection.execute(sa.select(requests))
    with pytest.raises(Damaged, match="taken over"), first.writing() as connection:
        connection.execute(requests.delete())
    first.close()
