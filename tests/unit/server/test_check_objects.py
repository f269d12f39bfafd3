"""A check of object storage: every object is accounted for, whatever is in the cache."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.contract.test_storage import enrol, gallery_of
from tests.s3_fixtures import S3Server
from tests.s3_keeper import keeping
from tests.server_fixtures import unit_vectors
from tests.server_rotation import CouncilLab, succession
from underseal_core.scheme.reencryption import Reencryptor
from underseal_server.check import Checker
from underseal_server.checking.findings import Report
from underseal_server.store import bucket
from underseal_server.store.bucket import Location
from underseal_server.store.folders import epoch_name
from underseal_server.store.places import ObjectStorage
from underseal_server.store.reencryption import Successor
from underseal_server.store.rotations import Move
from underseal_server.store.store import Store


@dataclass(frozen=True)
class Kept:
    """A catalogue with files in object storage."""

    data: Path
    s3: S3Server
    location: Location

    def open(self) -> Store:
        return Store(self.data, objects=ObjectStorage(self.location, 1 << 30))

    def check(self, *, repair: bool = False, keep: timedelta = timedelta(days=1)) -> Report:
        storage = ObjectStorage(self.location, 1 << 30)
        check = Checker(
            self.data,
            lambda: None,
            deep=False,
            threads=1,
            repair=repair,
            keep=keep,
            objects=storage,
        )
        return check.run()

    def put(self, key: str, data: bytes = b"x") -> None:
        name, _, prefix = self.location.url.removeprefix("s3://").partition("/")
        self.s3.client().put_object(Bucket=name, Key=f"{prefix}/{key}", Body=data)

    def delete(self, key: str) -> None:
        name, _, prefix = self.location.url.removeprefix("s3://").partition("/")
        self.s3.client().delete_object(Bucket=name, Key=f"{prefix}/{key}")

    def keys(self, end: str) -> list[str]:
        return sorted(key for key in self.s3.keys(self.location) if key.endswith(end))


@pytest.fixture
def kept(s3: S3Server, tmp_path: Path) -> Kept:
    return Kept(tmp_path / "data", s3, s3.bucket())


@pytest.fixture
def moved(kept: Kept) -> Kept:
    """Two units, one of them removed since, of which an earlier key epoch is kept, too."""
    way = succession()
    old, new = CouncilLab.of(way.old), CouncilLab.of(way.new)
    with closing(kept.open()) as store, old.evaluator() as before, new.evaluator() as after:
        for lab in (old, new):
            lab.bundle.save(kept.data / "bundles" / f"{lab.bundle.epoch}.usb")
        gallery = gallery_of(store, before, old)
        for seed in range(2):
            enrol(gallery, unit_vectors(1, seed=seed), lab=old)
        move = Move(way.key.new_epoch, way.key.id)
        successor = Successor(move, Reencryptor(way.key.profile, way.key.key), after)
        going = store.open_reencryption(gallery, successor)
        going.settle()
        store.rotations.finish(gallery.gallery, move, store.clock())
        store.delete_old_files(gallery.gallery, timedelta(days=1))
    return kept


OLD = epoch_name(succession().old.bundle.epoch)
NEW = epoch_name(succession().new.bundle.epoch)


def said(report: Report) -> set[tuple[str, str]]:
    return {(one.place.removeprefix("object storage: "), one.text) for one in report.findings}


def test_storage_without_any_gallery(kept: Kept) -> None:
    kept.open().close()
    report = kept.check()
    assert report.accounted and report.files == 4  # lock, catalogue and its identity, the mark


def test_what_is_kept_of_an_earlier_key_epoch_is_accounted_for(moved: Kept) -> None:
    report = moved.check()
    assert report.findings == []
    assert report.files == 3 + 2 + 1 + 4 + 1
    assert "every object" in report.sources.accounted()
    over = moved.check(keep=timedelta(0))
    left = "it is of a key epoch that the gallery has left"
    assert said(over) == {(f"units/1/{OLD}", left)}
    assert not moved.check(repair=True, keep=timedelta(0)).leftovers
    assert {key.split("/")[2] for key in moved.keys(".unit")} == {NEW}


def test_objects_that_should_not_be_there_are_named_and_deleted(moved: Kept) -> None:
    unit = "ab" * 16 + ".unit"
    own = {
        f"units/1/{OLD}/{unit}": "it holds ciphertexts that were removed",
        f"blocks/1/{OLD}/0.tiles": "it is of a key epoch that the gallery has left",
        f"units/1/{'c' * 16}/{unit}": "nothing in the catalogue names it",
        f"units/7/{'c' * 16}/{unit}": "it is of a gallery that was deleted",
    }
    strange = ["x", "backup/x", "units/x", "units/1/x", f"units/1/{OLD}/x", f"units/1/{NEW}/x"]
    for key in (*own, *strange):
        moved.put(key)
    report = moved.check()
    assert not report.problems and not report.accounted
    found = {place for place, _ in said(report)}
    for key, text in own.items():
        assert any(key.startswith(place) and text == why for place, why in said(report)), key
    assert set(strange) <= found and len(report.leftovers) == len(own) + len(strange)
    again = moved.check(repair=True)
    assert {one.place.rpartition(" ")[2] for one in again.leftovers} == set(strange)
    keys = moved.s3.keys(moved.location)
    assert not keys & own.keys() and keys >= set(strange)


def test_a_deletion_that_is_refused_is_no_repair(
    moved: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "_RETRIES", 0)
    for key in (f"units/1/{NEW}/{'ab' * 16}.unit", f"blocks/1/{OLD}/0.tiles"):
        moved.put(key)
    with keeping(moved.s3.endpoint) as keeper:
        keeper.keeps, keeper.status = "/1/", 200
        over = replace(moved, location=replace(moved.location, endpoint=keeper.endpoint))
        assert len(over.check(repair=True).leftovers) == 2
        keeper.keeps = ""
        assert over.check(repair=True).accounted


def test_an_object_is_looked_at_and_not_its_local_copy(moved: Kept) -> None:
    """The copies are sound; one object is gone, and one was exchanged."""
    units = [key for key in moved.keys(".unit") if NEW in key]
    assert list((moved.data / "cache").iterdir())
    moved.delete(units[0])
    moved.put(units[1])
    found = [one.text.rpartition(" ")[2] for one in moved.check().problems]
    assert sorted(found) == ["changed", "missing"]
