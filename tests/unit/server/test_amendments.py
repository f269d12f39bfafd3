"""Units of which the auditors erased templates, in the server's store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import store_fixtures
from tests.server_amendments import redacted_by
from tests.server_fixtures import unit_vectors
from tests.store_fixtures import LAB, enrol, opened, scores
from underseal_core.errors import Conflict
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.snapshot import LiveEntry, snapshot_root
from underseal_server.check import Checker
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import NewUnit, Receipt, StoredUnit
from underseal_server.store.store import BUNDLES, Store

evaluator, store = store_fixtures.evaluator, store_fixtures.store


def stored(store: Store, gallery: GalleryStore, receipt: Receipt) -> StoredUnit:
    unit = store.units.by_token(gallery.gallery, receipt.token)
    assert unit is not None
    return unit


def amended(
    gallery: GalleryStore, unit: StoredUnit, places: tuple[int, ...], **changes: object
) -> StoredUnit:
    old = list(gallery.files.ciphertexts(unit))
    with gallery.files.stage(unit.shape) as staged:
        amendment = redacted_by(LAB, gallery.gallery, unit, old, places, staged, **changes)
        return gallery.amend(unit, amendment, staged, None)


def remove(gallery: GalleryStore, unit: StoredUnit, made: NewUnit, *places: int) -> None:
    gallery.remove(unit, [made.templates[place].template_id for place in places], None)


@pytest.mark.parametrize("shape", list(Shape))
def test_the_removed_one_is_gone_and_the_others_score(
    store: Store, evaluator: Evaluator, shape: Shape
) -> None:
    gallery, vectors = opened(store, evaluator), unit_vectors(6)
    receipt, made = enrol(gallery, shape, vectors[:5])
    enrol(gallery, Shape.ROW, vectors[5:])
    unit = stored(store, gallery, receipt)
    before = {path.name for path in store.folder.rglob("*.unit")}
    remove(gallery, unit, made, 1, 3)
    now = amended(gallery, unit, (1, 3))
    slots = now.placement.slots()
    for place, vector in enumerate(vectors[:5]):
        got = scores(gallery, evaluator, vector)[slots[place]]
        assert abs(got - (0.0 if place in (1, 3) else 1.0)) < 2**-9
    assert gallery.files.sha256(now) == now.sha256
    left = {path.name for path in store.folder.rglob("*.unit")}
    assert before - left == {f"{unit.name.hex()}.unit"}
    assert not gallery._blocks.unsaved()


def test_freed_slots_are_used_again(tmp_path: Path, evaluator: Evaluator) -> None:
    """Also after a restart."""
    store = Store(tmp_path)
    gallery, vectors = opened(store, evaluator), unit_vectors(8)
    receipt, made = enrol(gallery, Shape.COLUMNS, vectors[:6])
    unit = stored(store, gallery, receipt)
    remove(gallery, unit, made, 2, 3)
    amended(gallery, unit, (2, 3))
    again, _ = enrol(gallery, Shape.COLUMNS, vectors[6:])
    assert list(again.placement.slots()) == [2, 3]
    found = scores(gallery, evaluator, vectors[7])[:6]
    wanted = np.concatenate([vectors[:2], vectors[6:], vectors[4:6]]) @ vectors[7]
    assert np.abs(found - wanted).max() < 2**-9
    store.close()
    second = Store(tmp_path)
    reopened = second.open_gallery(second.galleries.get("missing"), evaluator)
    assert np.array_equal(reopened.tiles(0), gallery.tiles(0))
    assert list(enrol(reopened, Shape.ROW, vectors[:1])[0].placement.slots()) == [6]
    second.close()


def test_a_second_time_and_the_last_one(store: Store, evaluator: Evaluator) -> None:
    """With the last template the unit goes as it always did, exactly."""
    gallery, vectors = opened(store, evaluator), unit_vectors(3)
    receipt, made = enrol(gallery, Shape.ROW, vectors)
    unit = stored(store, gallery, receipt)
    enrolled = unit.sha256.hex()
    for count, place in enumerate((0, 2), start=1):
        remove(gallery, unit, made, place)
        erased = tuple(sorted({*unit.erased, place}))
        unit = amended(gallery, unit, erased, enrolled_sha256=enrolled)
        assert (unit.redaction is not None, unit.erased) == (True, erased)
        assert unit.redaction is not None
        assert unit.redaction.count == count
    remove(gallery, unit, made, 1)
    gallery.checkpoint()
    assert not np.any(gallery.tiles(0))
    assert list(store.folder.rglob("*.unit")) == []


def test_the_same_amendment_again_changes_nothing(store: Store, evaluator: Evaluator) -> None:
    gallery, vectors = opened(store, evaluator), unit_vectors(3)
    receipt, made = enrol(gallery, Shape.ROW, vectors)
    unit = stored(store, gallery, receipt)
    remove(gallery, unit, made, 0)
    with gallery.files.stage(unit.shape) as staged:
        old = list(gallery.files.ciphertexts(unit))
        amendment = redacted_by(LAB, gallery.gallery, unit, old, (0,), staged)
        now = gallery.amend(unit, amendment, staged, None)
        view = gallery.view()
        assert gallery.amend(now, amendment, staged, None) == now
    assert gallery.view() == view


@pytest.mark.parametrize(
    "changes",
    [
        {"erased": "03"},
        {"erased": "02"},
        {"erased": "09"},
        {"count": 2},
        {"old_sha256": "ab" * 32},
        {"enrolled_sha256": "ab" * 32},
        {"token": "ab" * 16},
    ],
)
def test_an_amendment_of_another_state_is_refused(
    store: Store, evaluator: Evaluator, changes: dict[str, object]
) -> None:
    """A live template; a place that is none; another count, hash or gallery."""
    gallery, vectors = opened(store, evaluator), unit_vectors(3)
    receipt, made = enrol(gallery, Shape.ROW, vectors)
    unit = stored(store, gallery, receipt)
    remove(gallery, unit, made, 0)
    view, files = gallery.view(), sorted(store.folder.rglob("*.unit"))
    with pytest.raises(Conflict):
        amended(gallery, unit, (0,), **changes)
    assert gallery.view() == view
    assert sorted(store.folder.rglob("*.unit")) == files


def test_the_feed_shows_amendments(store: Store, evaluator: Evaluator) -> None:
    """To those who know the unit and to those who do not; and its root is the view's."""
    gallery, vectors = opened(store, evaluator), unit_vectors(3)
    row = gallery.gallery
    receipt, made = enrol(gallery, Shape.ROW, vectors)
    unit = stored(store, gallery, receipt)
    remove(gallery, unit, made, 0)
    known = store.galleries.get("missing").version
    now = amended(gallery, unit, (0,))
    for after in (0, known):
        pages = list(store.templates.changes(row, after, 100))
        (entry,) = (found for page in pages for found in page.amended)
        assert (entry.token, entry.sha256, entry.version) == (unit.token, now.sha256, known + 1)
        assert len([found for page in pages for found in page.units]) == (0 if after else 1)
    assert list(store.templates.changes(row, known + 1, 100))[-1].amended == ()
    live = [
        LiveEntry(
            0,
            now.placement.slots()[place],
            template.template_id,
            template.subject_id,
            now.sha256,
        )
        for place, template in enumerate(made.templates)
        if place
    ]
    view = gallery.view()
    assert view.root == snapshot_root("missing", view.version, live, view.blocks)


def test_a_data_folder_with_amended_units_is_accounted_for(
    tmp_path: Path, evaluator: Evaluator
) -> None:
    """The check finds the new file by its name, the block as its sum, and nothing left over."""
    store = Store(tmp_path)
    LAB.bundle.save(tmp_path / BUNDLES / f"{LAB.bundle.epoch}.usb")
    gallery, vectors = opened(store, evaluator), unit_vectors(3)
    receipt, made = enrol(gallery, Shape.ROW, vectors)
    unit = stored(store, gallery, receipt)
    remove(gallery, unit, made, 0)
    amended(gallery, unit, (0,))
    gallery.checkpoint()
    store.close()
    report = Checker(tmp_path, lambda: None, deep=True, threads=1).run()
    assert report.findings == []
    assert report.accounted
