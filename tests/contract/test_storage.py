"""What a store does, over every kind of catalogue and of file storage: one suite for all."""

from __future__ import annotations

import itertools
import secrets
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from tests import killed_store, storage_kinds
from tests.killed_store import check, prepare, run
from tests.server_fixtures import (
    Lab,
    UnitContent,
    Vectors,
    enrol_now,
    labelled,
    signed_for,
    unit_vectors,
)
from tests.server_rotation import CouncilLab, succession
from tests.storage_kinds import opened
from tests.unit.server.kill_child import Place
from underseal_core.errors import Conflict, InvalidInput, NotFound
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.reencryption import Reencryptor
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import Gallery, GallerySpec, NewTemplate, NewUnit, Receipt
from underseal_server.store.reencryption import Successor
from underseal_server.store.rotations import Move
from underseal_server.store.store import Store

LAB = Lab()

places = storage_kinds.places
place = storage_kinds.place
work = killed_store.work
zygote = killed_store.zygote
evaluator = killed_store.evaluator


def gallery_of(store: Store, evaluator: Evaluator, lab: Lab = LAB) -> GalleryStore:
    spec = GallerySpec("missing", lab.pin, "agency", frozenset({"agency", "bureau"}), 3)
    return store.open_gallery(store.galleries.create(spec, store.clock()), evaluator)


def enrol(
    gallery: GalleryStore,
    vectors: Vectors,
    *,
    shape: Shape = Shape.ROW,
    templates: list[NewTemplate] | None = None,
    lab: Lab = LAB,
) -> tuple[Receipt, NewUnit]:
    sealed = [lab.row(vectors)] if shape is Shape.ROW else lab.columns(vectors)
    with gallery.files.stage(shape) as staged:
        for ciphertext in sealed:
            staged.write(ciphertext.to_bytes())
        staged.sync()
        made = templates or labelled(len(vectors))
        content = UnitContent(secrets.token_bytes(16), shape, made, staged, lab.pin)
        unit = signed_for("missing", content)
        return enrol_now(gallery, unit, staged), unit


def again(gallery: GalleryStore, unit: NewUnit, vectors: Vectors) -> Receipt:
    """Send a unit a second time, as a client does that lost the answer."""
    with gallery.files.stage(unit.shape) as staged:
        staged.write(LAB.row(vectors).to_bytes())
        staged.sync()
        return enrol_now(gallery, unit, staged)


def remove(store: Store, gallery: GalleryStore, unit: NewUnit, count: int | None = None) -> int:
    stored = store.units.by_token(gallery.gallery, unit.token)
    assert stored is not None
    ids = [template.template_id for template in unit.templates][:count]
    return gallery.remove(stored, ids, None)


def scores(gallery: GalleryStore, evaluator: Evaluator, probe: Vectors, lab: Lab = LAB) -> Vectors:
    ready = evaluator.prepare(lab.probe(probe)).probe
    return lab.open(evaluator.score(ready, gallery.tiles(0)))


def test_what_was_enrolled_is_searched_also_after_a_restart(
    place: Place, evaluator: Evaluator
) -> None:
    vectors = unit_vectors(12)
    with opened(place) as store:
        gallery = gallery_of(store, evaluator)
        row, unit = enrol(gallery, vectors[:2])
        bulk, _ = enrol(gallery, vectors[2:], shape=Shape.COLUMNS)
        slots = [*row.placement.slots(), *bulk.placement.slots()]
        got = scores(gallery, evaluator, vectors[5])
        assert np.abs(got[slots] - vectors @ vectors[5]).max() < 2**-9
        repeated = again(gallery, unit, vectors[:2])
        assert repeated.repeated and repeated.placement == row.placement
        view, tiles = gallery.view(), np.array(gallery.tiles(0))
        assert (view.version, view.templates) == (2, 12)
    with opened(place) as store:
        gallery = gallery_of(store, evaluator)
        assert gallery.view() == view
        assert np.array_equal(gallery.tiles(0), tiles)


def test_tokens_ids_and_limits(place: Place, evaluator: Evaluator) -> None:
    with opened(place) as store:
        gallery = gallery_of(store, evaluator)
        subject = secrets.token_bytes(16)
        _, unit = enrol(gallery, unit_vectors(2), templates=labelled(2, [subject] * 2))
        taken = [NewTemplate(t.template_id, bytes(16), b"label") for t in unit.templates]
        with pytest.raises(Conflict, match="template id"):
            enrol(gallery, unit_vectors(2), templates=taken)
        with pytest.raises(InvalidInput, match="more than 3 templates"):
            enrol(gallery, unit_vectors(2), templates=labelled(2, [subject] * 2))
        with pytest.raises(Conflict, match="other settings"):
            changed = GallerySpec("missing", LAB.pin, "agency", frozenset({"agency"}), 4)
            store.galleries.create(changed, store.clock())
        store.requests.claim("a" * 32, "agency", "2026-01-01T00:10:00Z", "2026-01-01T00:00:00Z")
        with pytest.raises(Conflict, match="duplicate"):
            store.requests.claim("a" * 32, "agency", "2026-01-01T00:10:00Z", "2026-01-01T00:00:00Z")
        assert (gallery.view().version, gallery.view().templates) == (1, 2)
        assert len(store.folders(gallery.gallery).units.sizes()) == 1


def test_what_is_removed_leaves_the_block_and_the_files(place: Place, evaluator: Evaluator) -> None:
    with opened(place) as store:
        gallery = gallery_of(store, evaluator)
        enrol(gallery, unit_vectors(1))
        before = np.array(gallery.tiles(0))
        _, unit = enrol(gallery, unit_vectors(4), shape=Shape.COLUMNS)
        gallery.checkpoint()
        assert remove(store, gallery, unit, 3) == 3
        assert remove(store, gallery, unit, 3) == 0
        assert gallery.view().templates == 2
        assert remove(store, gallery, unit) == 1
        assert np.array_equal(gallery.tiles(0), before)
        gallery.checkpoint()
        store.purge()
        names = set(store.folders(gallery.gallery).units.sizes())
        assert f"{unit.token.hex()}.unit" not in names and len(names) == 1
        version = gallery.view().version
    with opened(place) as store:
        gallery = gallery_of(store, evaluator)
        assert np.array_equal(gallery.tiles(0), before)
        assert (gallery.view().version, gallery.view().templates) == (version, 1)


def test_the_feed_tells_every_change_once(place: Place, evaluator: Evaluator) -> None:
    with opened(place) as store:
        gallery = gallery_of(store, evaluator)
        _, first = enrol(gallery, unit_vectors(2))
        _, second = enrol(gallery, unit_vectors(1))
        remove(store, gallery, first, 1)
        for after, units, templates in ((0, 2, 3), (1, 1, 2), (2, 0, 1), (3, 0, 0)):
            pages = list(store.templates.changes(gallery.gallery, after, 2))
            assert {page.version for page in pages} == {3}
            assert sum(len(page.units) for page in pages) == units
            assert sum(len(page.templates) for page in pages) == templates
        pages = list(store.templates.changes(gallery.gallery, 0, 2))
        labels = {c.template_id: c.sealed_label for page in pages for c in page.templates}
        assert labels[first.templates[0].template_id] == b""
        assert labels[second.templates[0].template_id] == second.templates[0].sealed_label


def test_readers_see_one_state_while_writers_go_on(place: Place, evaluator: Evaluator) -> None:
    with opened(place) as store:
        gallery = gallery_of(store, evaluator)

        def read(row: Gallery) -> list[tuple[int, int]]:
            seen = []
            for _ in range(6):
                pages = list(store.templates.changes(row, 0, 1))
                seen.append((pages[0].version, sum(len(page.templates) for page in pages)))
            return seen

        with ThreadPoolExecutor(3) as pool:
            readings = [pool.submit(read, gallery.gallery) for _ in range(3)]
            for number in range(5):
                enrol(gallery, unit_vectors(2, seed=number))
        states = [state for reading in readings for state in reading.result()]
        assert all(templates == 2 * version for version, templates in states)


def test_a_deleted_gallery_takes_everything_along(place: Place, evaluator: Evaluator) -> None:
    with opened(place) as store:
        gallery = gallery_of(store, evaluator)
        enrol(gallery, unit_vectors(2))
        gallery.checkpoint()
        store.delete_gallery(gallery.gallery)
        with pytest.raises(NotFound):
            store.galleries.get("missing")
        assert store._places.galleries() == frozenset()
        new = gallery_of(store, evaluator)
        assert new.gallery.id != gallery.gallery.id
        assert new.view().templates == 0


def test_a_gallery_moves_to_its_next_key_epoch(place: Place) -> None:
    moved = succession()
    old, new = CouncilLab.of(moved.old), CouncilLab.of(moved.new)
    move = Move(moved.key.new_epoch, moved.key.id)
    vectors = unit_vectors(6)
    with opened(place) as store, old.evaluator() as before, new.evaluator() as after:
        gallery = gallery_of(store, before, old)
        enrol(gallery, vectors[:2], lab=old)
        enrol(gallery, vectors[2:], shape=Shape.COLUMNS, lab=old)
        successor = Successor(move, Reencryptor(moved.key.profile, moved.key.key), after)
        way = store.open_reencryption(gallery, successor)
        for unit in way.waiting():
            way.convert(unit)
        way.settle()
        store.rotations.finish(gallery.gallery, move, store.clock())
        row = store.galleries.get("missing")
        again = store.open_gallery(row, after)
        slots = [slot for unit in store.units.live(row) for slot in unit.placement.slots()]
        got = scores(again, after, vectors[4], new)
        assert np.abs(got[slots] - vectors @ vectors[4]).max() < 2**-8
        assert store.old_units(row, old.pin.key_epoch).exists(store.units.live(row)[0].name)
        store.delete_old_files(row, timedelta(0))
        with pytest.raises(NotFound, match="not kept"):
            store.old_units(row, old.pin.key_epoch)
        assert again.view().version == 3


def test_a_kill_loses_and_doubles_nothing(
    places: Iterator[Place], evaluator: Evaluator, zygote: subprocess.Popen[str]
) -> None:
    """At some steps; what the disk does at each is tested with local files."""
    for step in itertools.count(3, 15):
        place = next(places)
        prepare(Path(place.data))
        answered, killed = run(zygote, place, step)
        check(place, answered, evaluator)
        if not killed:
            break
    assert step > 18
