"""Which snapshots were named, and which archives hold a template."""

from __future__ import annotations

import pytest

from tests import store_fixtures
from tests.server_fixtures import unit_vectors
from tests.store_fixtures import enrol, opened
from underseal_core.errors import Damaged
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.evaluation import Evaluator
from underseal_server.store.history import Snapshots
from underseal_server.store.records import Archive, Gallery, View
from underseal_server.store.store import Store

evaluator, store = store_fixtures.evaluator, store_fixtures.store


def view(version: int, root: str = "") -> View:
    return View(version, root or f"{version:064x}", version, {})


def test_each_viewed_version_is_kept_with_its_root(store: Store, evaluator: Evaluator) -> None:
    gallery = opened(store, evaluator)
    first = gallery.view()
    for seed in (1, 2):
        enrol(gallery, Shape.ROW, unit_vectors(2, seed=seed))
    last = gallery.view()
    found = [(one.version, one.root, one.templates) for one in store.snapshots.all(gallery.gallery)]
    # Version 1 was never named to anybody.
    assert found == [(0, first.root, 0), (2, last.root, 4)]


def test_a_version_with_another_root_than_before_is_not_shown(
    store: Store, evaluator: Evaluator
) -> None:
    gallery = opened(store, evaluator)
    enrol(gallery, Shape.ROW, unit_vectors(2))
    gallery.view()
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE templates SET slot = slot + 1 WHERE id = 2")
    again = opened(store, evaluator)
    with pytest.raises(Damaged, match="not what it was at version 1"):
        again.view()


def test_the_oldest_snapshots_are_forgotten_gallery_by_gallery(
    store: Store, evaluator: Evaluator
) -> None:
    rows = [opened(store, evaluator, name).gallery for name in ("a", "b")]
    few = Snapshots(store._database, kept=3)
    for version in range(1, 6):
        few.note(rows[0], view(version), store.clock())
    few.note(rows[1], view(1), store.clock())
    few.note(rows[0], view(5), store.clock())
    assert [one.version for one in few.all(rows[0])] == [3, 4, 5]
    assert [one.version for one in few.all(rows[1])] == [1]


def archive(number: int, version: int) -> Archive:
    return Archive(f"{number:032x}", version, "0" * 64, "1" * 64, f"2026-01-0{number}T00:00:00Z")


def noted(store: Store, gallery: Gallery, versions: dict[int, int]) -> None:
    for number, version in versions.items():
        store.archives.note(gallery, archive(number, version))


def test_the_archives_that_hold_a_template_are_those_made_while_it_lived(
    store: Store, evaluator: Evaluator
) -> None:
    gallery = opened(store, evaluator)
    _, unit = enrol(gallery, Shape.ROW, unit_vectors(1))  # version 1
    _, other = enrol(gallery, Shape.ROW, unit_vectors(1))  # version 2
    stored = store.units.by_token(gallery.gallery, unit.token)
    assert stored is not None
    gone, stays = unit.templates[0].template_id, other.templates[0].template_id
    gallery.remove(stored, [gone], None)  # version 3
    noted(store, gallery.gallery, {1: 0, 2: 1, 3: 2, 4: 3, 5: 4})
    holding = store.archives.holding

    def held(*ids: bytes) -> list[int]:
        return [int(found.archive_id, 16) for found in holding(gallery.gallery, ids)]

    assert (held(gone), held(stays), held(gone, stays)) == ([2, 3], [3, 4, 5], [2, 3, 4, 5])
    assert held(b"?" * 16) == []


def test_a_removed_template_stays_in_the_archives_of_its_unit(
    store: Store, evaluator: Evaluator
) -> None:
    gallery = opened(store, evaluator)
    _, unit = enrol(gallery, Shape.ROW, unit_vectors(2))  # version 1
    stored = store.units.by_token(gallery.gallery, unit.token)
    assert stored is not None
    first, second = (template.template_id for template in unit.templates)
    gallery.remove(stored, [first], None)  # version 2, but its ciphertext stays
    gallery.remove(stored, [second], None)  # version 3, and it goes
    noted(store, gallery.gallery, {1: 1, 2: 2, 3: 3})
    found = store.archives.holding(gallery.gallery, [first])
    assert [one.version for one in found] == [1, 2]


def test_notes_of_archives_outlive_the_gallery(store: Store, evaluator: Evaluator) -> None:
    gallery = opened(store, evaluator)
    gallery.view()
    noted(store, gallery.gallery, {1: 0, 2: 0})
    store.archives.forget(gallery.gallery, f"{2:032x}")
    store.delete_gallery(gallery.gallery)
    assert list(store.snapshots.all(gallery.gallery)) == []
    assert store.archives.all("missing") == [archive(1, 0)]
