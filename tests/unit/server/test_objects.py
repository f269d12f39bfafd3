"""Files in S3-compatible storage: what is refused, what is kept locally, what goes wrong."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from tests.s3_fixtures import SECRET, S3Server
from underseal_core.errors import Busy, Damaged, InvalidInput, UndersealError
from underseal_server.settings import load_settings
from underseal_server.store import bucket as requests
from underseal_server.store.bucket import MARK, Bucket, Location
from underseal_server.store.cache import Cache
from underseal_server.store.objects import ObjectFiles, Objects
from underseal_server.store.places import open_places

EPOCH = "ab" * 32
UNIT = "units/7/abababababababab/"


@pytest.fixture
def location(s3: S3Server) -> Location:
    """Of an empty bucket."""
    return s3.bucket()


@pytest.fixture
def objects(location: Location, tmp_path: Path) -> Iterator[Objects]:
    cache = Cache(tmp_path / "cache", 1 << 20)
    with closing(Objects(tmp_path, Bucket(location), cache)) as opened:
        yield opened


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have little patience with a storage that does not answer."""
    monkeypatch.setattr(requests, "_SILENCE", timedelta(milliseconds=300))
    monkeypatch.setattr(requests, "_RETRIES", 0)


def stored(files: ObjectFiles, name: str, data: bytes) -> None:
    part = files.folder / f"{name}.part"
    part.write_bytes(data)
    files.put([(part, name)])
    assert not part.exists()


def test_files_are_objects_with_local_copies(
    objects: Objects, s3: S3Server, location: Location
) -> None:
    files = objects.of(7, EPOCH).units
    assert isinstance(files, ObjectFiles)
    stored(files, "a.unit", b"one")
    stored(files, "b.unit", b"two and more")
    assert s3.keys(location) == {UNIT + "a.unit", UNIT + "b.unit"}
    assert files.sizes() == {"a.unit": 3, "b.unit": 12}
    assert objects.cache.held == 15
    with files.open("b.unit") as file:
        assert file.read() == b"two and more"
    assert files.read("b.unit", 4, 3) == b"and"
    objects.cache.drop(UNIT + "b.unit")
    assert files.read("b.unit", 4, 100) == b"and more"
    assert objects.cache.held == 3
    with files.open("b.unit") as file:
        assert file.read() == b"two and more"
    assert objects.cache.held == 15
    files.delete(["a.unit", "never.unit"])
    assert s3.keys(location) == {UNIT + "b.unit"}
    assert (files.exists("a.unit"), files.exists("b.unit")) == (False, True)
    with pytest.raises(Damaged, match="missing"):
        files.open("a.unit")
    (files.folder / "upload.part").write_bytes(b"broken off")
    assert files.sizes().keys() == {"b.unit", "upload.part"}
    files.delete(["upload.part"])
    assert list(files.folder.iterdir()) == []


def test_a_replaced_file_is_never_read_from_an_older_copy(
    location: Location, tmp_path: Path
) -> None:
    """Another server wrote the object since: its version tells."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with closing(Objects(ours, Bucket(location), Cache(ours / "cache", 1 << 20))) as objects:
        blocks = objects.of(7, EPOCH).blocks
        assert isinstance(blocks, ObjectFiles)
        stored(blocks, "0.tiles", b"first")
        stored(blocks, "0.tiles", b"second")
        assert blocks.open("0.tiles").read() == b"second"
    with closing(Objects(theirs, Bucket(location), Cache(theirs / "cache", 1 << 20))) as objects:
        blocks = objects.of(7, EPOCH).blocks
        assert isinstance(blocks, ObjectFiles)
        stored(blocks, "0.tiles", b"third")
    with closing(Objects(ours, Bucket(location), Cache(ours / "cache", 1 << 20))) as objects:
        assert objects.cache.held == len(b"second")
        assert objects.of(7, EPOCH).blocks.open("0.tiles").read() == b"third"


def test_the_cache_stays_within_its_bound_and_drops_what_was_not_used(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 250)
    for name in ("a", "b"):
        add(cache, name, 100)
    found = cache.open("a", "")
    assert found is not None
    found.close()
    add(cache, "c", 100)
    assert [cache.open(name, "") is not None for name in "abc"] == [True, False, True]
    assert cache.held == 200 == sum(path.stat().st_size for path in tmp_path.iterdir())
    add(cache, "large", 300)
    assert cache.held == 300
    add(cache, "d", 100)
    assert cache.held == 100
    again = Cache(tmp_path, 250)
    assert again.held == 100 and again.open("d", "") is not None
    assert Cache(tmp_path, 50).held == 0
    assert list(tmp_path.iterdir()) == []


def add(cache: Cache, name: str, size: int) -> None:
    part = cache.part()
    part.write_bytes(os.urandom(size))
    cache.add(name, "", part).close()


def test_a_copy_that_was_changed_is_fetched_again(objects: Objects, tmp_path: Path) -> None:
    files = objects.of(7, EPOCH).units
    assert isinstance(files, ObjectFiles)
    stored(files, "a.unit", b"content of the unit")
    (copy,) = (tmp_path / "cache").iterdir()
    copy.write_bytes(b"Content of the unit")
    with structlog.testing.capture_logs() as logs:
        assert files.open("a.unit").read() == b"content of the unit"
    assert [entry["event"] for entry in logs] == ["a local copy was changed"]
    (copy,) = (tmp_path / "cache").iterdir()
    assert copy.read_bytes() == b"content of the unit"


def copies(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.iterdir())


def test_copies_of_what_went_elsewhere_go_too(
    objects: Objects, location: Location, tmp_path: Path
) -> None:
    """Another server replaced a block and deleted a unit while this one was down."""
    here = objects.of(7, EPOCH)
    assert isinstance(here.units, ObjectFiles) and isinstance(here.blocks, ObjectFiles)
    for name in ("stays.unit", "goes.unit"):
        stored(here.units, name, name.encode())
    stored(here.blocks, "0.tiles", b"sum with it")
    other_cache = Cache(tmp_path / "elsewhere/cache", 1 << 20)
    with closing(Objects(tmp_path / "elsewhere", Bucket(location), other_cache)) as other:
        there = other.of(7, EPOCH)
        assert isinstance(there.blocks, ObjectFiles)
        stored(there.blocks, "0.tiles", b"sum without")
        there.units.delete(["goes.unit"])
    strays = sorted(path.read_bytes() for path in objects.stray_copies())
    assert strays == [b"goes.unit", b"sum with it"]
    objects.settle()
    assert copies(tmp_path / "cache") == [b"stays.unit"]
    assert objects.cache.held == len(b"stays.unit")


def test_a_copy_that_is_fetched_during_a_deletion_goes_with_the_object(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = objects.of(7, EPOCH).units
    assert isinstance(files, ObjectFiles)
    stored(files, "a.unit", b"one")
    objects.cache.drop(UNIT + "a.unit")
    fetch = objects.bucket.fetch

    def slow(key: str, path: Path) -> tuple[int, str]:
        found = fetch(key, path)
        files.delete(["a.unit"])
        return found

    monkeypatch.setattr(objects.bucket, "fetch", slow)
    with files.open("a.unit") as file:
        assert file.read() == b"one"
    assert copies(tmp_path / "cache") == []


def test_everything_of_an_epoch_or_a_gallery_goes(
    objects: Objects, s3: S3Server, location: Location
) -> None:
    for gallery, epoch in ((7, EPOCH), (7, "cd" * 32), (71, EPOCH)):
        folders = objects.of(gallery, epoch)
        for files, name in ((folders.units, "a.unit"), (folders.blocks, "0.tiles")):
            assert isinstance(files, ObjectFiles)
            stored(files, name, b"x")
    assert objects.galleries() == {"7", "71"}
    objects.delete_epoch(7, EPOCH, with_units=False)
    assert objects.units_of(7, EPOCH)
    objects.delete_epoch(7, EPOCH, with_units=True)
    assert objects.units_of(7, EPOCH) is None and objects.units_of(7, "cd" * 32)
    objects.delete_gallery(7)
    assert objects.galleries() == {"71"}
    assert all(key.split("/")[1] == "71" for key in s3.keys(location))


def test_storage_that_does_not_answer_is_said_and_what_was_cached_is_read(
    s3: S3Server, location: Location, tmp_path: Path, quick: None
) -> None:
    with closing(Objects(tmp_path, Bucket(location), Cache(tmp_path / "cache", 99))) as objects:
        folders = objects.of(7, EPOCH)
        assert isinstance(folders.units, ObjectFiles) and isinstance(folders.blocks, ObjectFiles)
        for name in ("a.unit", "b.unit"):
            stored(folders.units, name, b"x" * 60)
        stored(folders.blocks, "0.tiles", b"tiles")
        part = folders.units.folder / "c.part"
        part.write_bytes(b"new")
        s3.pause()
        try:
            assert folders.blocks.open("0.tiles").read() == b"tiles"
            assert folders.units.open("b.unit").read() == b"x" * 60
            for attempt in (
                lambda: folders.units.put([(part, "c.unit")]),
                lambda: folders.units.open("a.unit"),
                lambda: folders.units.sizes(),
            ):
                with pytest.raises(Busy, match="object storage cannot be reached"):
                    attempt()
            folders.units.delete(["a.unit"])
        finally:
            s3.resume()
        objects.settle()
        assert f"{UNIT}a.unit" not in s3.keys(location)
        folders.units.put([(part, "c.unit")])
        objects.settle()
        assert f"{UNIT}c.unit" in s3.keys(location)


def test_a_file_stored_again_outlives_a_deletion_that_waited(
    s3: S3Server, location: Location, tmp_path: Path, quick: None
) -> None:
    with closing(Objects(tmp_path, Bucket(location), Cache(tmp_path / "cache", 99))) as objects:
        files = objects.of(7, EPOCH).units
        assert isinstance(files, ObjectFiles)
        stored(files, "a.unit", b"x")
        s3.pause()
        files.delete(["a.unit"])
        s3.resume()
        stored(files, "a.unit", b"y")
        objects.settle()
        assert files.open("a.unit").read() == b"y"


def test_a_bucket_that_keeps_old_versions_is_refused(s3: S3Server) -> None:
    versioned = s3.bucket(versioned=True)
    with pytest.raises(InvalidInput, match="keeps old versions"):
        Bucket(versioned).claim("a" * 32, fresh=True)


def test_a_bucket_belongs_to_one_catalogue(s3: S3Server, location: Location) -> None:
    bucket = Bucket(location)
    with pytest.raises(InvalidInput, match="nothing of this catalogue"):
        bucket.claim("a" * 32, fresh=False)
    bucket.claim("a" * 32, fresh=True)
    bucket.claim("a" * 32, fresh=False)
    for fresh in (True, False):
        with pytest.raises(InvalidInput, match="another catalogue"):
            bucket.claim("b" * 32, fresh=fresh)
    assert s3.keys(location) == {MARK}


def test_a_data_folder_belongs_to_one_catalogue(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no files of this catalogue"):
        open_places(tmp_path, "a" * 32, None, fresh=False)
    open_places(tmp_path, "a" * 32, None, fresh=True)
    open_places(tmp_path, "a" * 32, None, fresh=False)
    with pytest.raises(InvalidInput, match="another catalogue"):
        open_places(tmp_path, "b" * 32, None, fresh=True)


def test_wrong_places_are_refused_without_the_secret(
    location: Location, tmp_path: Path, quick: None
) -> None:
    wrong = [
        replace(location, url="s3://"),
        replace(location, url="http://bucket/x"),
        replace(location, url=location.url + "nowhere", endpoint="http://127.0.0.1:1"),
        replace(location, url="s3://no-such-bucket/x"),
        replace(location, endpoint="nonsense"),
    ]
    for one in wrong:
        with pytest.raises(UndersealError) as refused:
            Bucket(one).claim("a" * 32, fresh=True)
        text = "".join(traceback.format_exception(refused.value))
        assert SECRET not in text + repr(one) + refused.value.hint
    (tmp_path / "server.toml").write_text(
        f'objects = "s3://bucket/x"\nobjects_key_id = "id"\nobjects_secret = "{SECRET}"\n'
        "objects_cache_mib = 3"
    )
    settings = load_settings(tmp_path / "server.toml")
    storage = settings.object_storage()
    assert storage is not None
    assert (storage.location.secret, storage.cache_bytes) == (SECRET, 3 << 20)
    assert SECRET not in repr(settings) + repr(storage) + str(settings.model_dump())
    assert load_settings(None).object_storage() is None
