"""Galleries that move in archives, and what `check` finds and repairs, over every kind of store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from tests import storage_kinds
from tests.archive_fixtures import NAME, Folder, amend, enrol, remove
from tests.postgres_fixtures import Cluster
from tests.storage_kinds import begin, checked, flip, opened_place
from tests.unit.server.kill_child import Place
from underseal_core.errors import Conflict, Damaged
from underseal_core.gallery.unit import Shape
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import FeedPage
from underseal_server.store.store import CATALOGUE

places = storage_kinds.places
place = storage_kinds.place


def lived(folder: Folder) -> GalleryStore:
    """A gallery with a past: removed and erased templates, a unit that is gone, two snapshots."""
    begin(folder)
    gallery = folder.gallery()
    enrol(gallery, Shape.ROW, 3, 1)
    gallery.view()
    part = enrol(gallery, Shape.COLUMNS, 40, 2, keep_until="2030-01-01T00:00:00Z")
    gone = enrol(gallery, Shape.ROW, 2, 3)
    remove(folder, gallery, part, 5)
    remove(folder, gallery, gone, 2)
    amend(folder, gallery, part, 4)  # the fifth stays, dead, in the ciphertexts
    gallery.view()
    gallery.checkpoint()
    return gallery


def feed(folder: Folder) -> list[FeedPage]:
    return list(folder.store.templates.changes(folder.store.galleries.get(NAME), 0, 7))


def test_a_gallery_comes_back_bit_for_bit_and_goes_on(
    places: Iterator[Place], tmp_path: Path
) -> None:
    old, new, path = next(places), next(places), tmp_path / "missing.archive"
    with opened_place(old) as folder:
        gallery = lived(folder)
        archive = folder.export(path)
        view, pages, tiles = gallery.view(), feed(folder), np.array(gallery.tiles(0))
        stored = folder.store.galleries.get(NAME)
        history = list(folder.store.snapshots.all(stored))
    with opened_place(new) as folder:
        begin(folder, "other")  # numbers of rows are not those of the old catalogue
        other = folder.gallery("other")
        enrol(other, Shape.ROW, 4, 1)
        other.checkpoint()
        folder.load(path)
        again, row = folder.gallery(), folder.store.galleries.get(NAME)
        assert again.view() == view
        assert np.array_equal(again.tiles(0), tiles)
        assert feed(folder) == pages
        assert (row.spec, row.created_at) == (stored.spec, stored.created_at)
        assert list(folder.store.snapshots.all(row)) == history
        assert folder.store.archives.all(NAME) == [archive]
        late = folder.store.templates.units_past_their_time(row, "2030-01-01T00:00:00Z")
        assert [len(ids) for ids in late.values()] == [35]
        with pytest.raises(Conflict, match="already"):
            folder.load(path)
    after = [going_on(one) for one in (old, new)]
    assert after[0] == after[1]
    assert checked(new).accounted
    assert checked(old).accounted


def going_on(place: Place) -> list[object]:
    """Change the gallery, and return what is the same wherever it is.

    Rows get numbers that no other row has.
    """
    with opened_place(place) as folder:
        gallery = folder.gallery()
        units = {unit.id for unit in folder.store.units.live(gallery.gallery)}
        unit = enrol(gallery, Shape.ROW, 2, 6)
        stored = folder.store.units.by_token(gallery.gallery, unit.token)
        assert stored is not None and stored.id > max(units)
        enrol(gallery, Shape.COLUMNS, 3, 7)
        remove(folder, gallery, unit, 1)
        begin(folder, "next")
        assert folder.store.galleries.get("next").id > gallery.gallery.id
        view = gallery.view()
        gallery.checkpoint()
        live = folder.store.units.live(gallery.gallery)
        return [view.version, *((one.token, one.placement) for one in live)]


def test_a_cut_archive_leaves_nothing(places: Iterator[Place], tmp_path: Path) -> None:
    old, new, path = next(places), next(places), tmp_path / "missing.archive"
    with opened_place(old) as folder:
        lived(folder)
        folder.export(path)
    data = path.read_bytes()
    with opened_place(new) as folder:
        for share in (0.3, 0.9):  # within the bundle, and the ciphertexts
            path.write_bytes(data[: int(len(data) * share)])
            with pytest.raises(Damaged):
                folder.load(path)
            assert folder.store.galleries.page("", 9) == []
            assert folder.store.archives.all(NAME) == []
            assert folder.store._places.galleries() == frozenset()
    assert checked(new).accounted


def test_a_place_without_galleries_is_accounted_for(place: Place) -> None:
    with opened_place(place):
        pass
    assert checked(place).accounted


def test_a_damaged_unit_is_named_and_taken_back_out_of_its_block(place: Place) -> None:
    with opened_place(place) as folder:
        begin(folder)
        gallery = folder.gallery()
        enrol(gallery, Shape.COLUMNS, 7, 1)
        enrol(gallery, Shape.ROW, 2, 2)
        gallery.checkpoint()
        view, tiles = gallery.view(), np.array(gallery.tiles(0))
    name = flip(place, "units")
    assert name == f"{1:032x}.unit"
    report = checked(place)
    assert [name in found.text for found in report.problems] == [True]
    assert checked(place, repair=True).problems == []
    assert checked(place).findings == []
    with opened_place(place) as folder:
        assert folder.gallery().view() == view
        assert np.array_equal(folder.gallery().tiles(0), tiles)


def test_a_damaged_block_is_made_again_from_its_units(place: Place) -> None:
    with opened_place(place) as folder:
        view, tiles = lived(folder).view(), np.array(folder.gallery().tiles(0))
    flip(place, "blocks")
    assert len(checked(place).findings) == 1
    assert checked(place, repair=True).accounted
    assert checked(place).findings == []
    with opened_place(place) as folder:
        assert folder.gallery().view() == view
        assert np.array_equal(folder.gallery().tiles(0), tiles)


CHANGES = {
    "UPDATE units SET enrolled_by = 'other' WHERE id = 1": "another client",
    "UPDATE templates SET slot = 4001 WHERE id = 1": "not in its slots",
    "UPDATE snapshots SET root = '00' WHERE version > 3": "another snapshot root",
}


def test_a_catalogue_that_was_changed_by_hand_is_found(
    place: Place, request: pytest.FixtureRequest
) -> None:
    with opened_place(place) as folder:
        lived(folder)
    if place.catalogue:
        cluster: Cluster = request.getfixturevalue("postgres")
        with cluster.connect(str(sa.make_url(place.catalogue).database)) as admin:
            for change in CHANGES:
                admin.execute(change.encode())
    else:
        with closing(sqlite3.connect(Path(place.data, CATALOGUE))) as connection:
            connection.executescript(";".join(CHANGES))
    told = [found.text for found in checked(place, deep=False).problems]
    for text in CHANGES.values():
        assert any(text in one for one in told), told
