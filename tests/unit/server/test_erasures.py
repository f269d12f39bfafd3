"""What the store knows of removed templates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests import store_fixtures
from tests.server_fixtures import unit_vectors
from tests.store_fixtures import enrol, opened
from tests.unit.server.test_amendments import amended, remove, stored
from underseal_core.errors import NotFound
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.evaluation import Evaluator
from underseal_server.store.store import Store

MOMENT = "2026-03-01T12:00:00Z"
evaluator = store_fixtures.evaluator


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "data", lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))
    yield store
    store.close()


def test_removed_templates_with_their_time_and_amendment(
    store: Store, evaluator: Evaluator
) -> None:
    gallery = opened(store, evaluator)
    receipt, made = enrol(gallery, Shape.ROW, unit_vectors(3))  # version 1
    unit = stored(store, gallery, receipt)
    ids = [template.template_id for template in made.templates]
    assert store.erasures.page(gallery.gallery, b"", 0, 10) == []
    remove(gallery, unit, made, 0, 2)  # version 2
    found = store.erasures.page(gallery.gallery, b"", 0, 10)
    assert [(one.template_id, one.place) for one in found] == [(ids[0], 0), (ids[2], 2)]
    told = [(one.version, one.moment, one.amendment, one.copied) for one in found]
    assert told == [(2, MOMENT, None, False)] * 2
    amended(gallery, unit, (0,))  # version 3
    (again,) = store.erasures.of_ids(gallery.gallery, [ids[0]])
    assert again.amendment is not None
    assert again.amendment[1] == 3


def test_pages_and_subjects(store: Store, evaluator: Evaluator) -> None:
    gallery = opened(store, evaluator)
    receipt, made = enrol(gallery, Shape.ROW, unit_vectors(3))
    remove(gallery, stored(store, gallery, receipt), made, 0, 1, 2)
    page = store.erasures.page
    first = page(gallery.gallery, b"", 0, 2)
    rest = page(gallery.gallery, b"", first[-1].number, 2)
    assert [one.place for one in (*first, *rest)] == [0, 1, 2]
    subject = made.templates[1].subject_id
    mine = [one.template_id for one in made.templates if one.subject_id == subject]
    assert [one.template_id for one in page(gallery.gallery, subject, 0, 9)] == mine


def test_a_live_template_is_not_among_the_removed(store: Store, evaluator: Evaluator) -> None:
    gallery = opened(store, evaluator)
    receipt, made = enrol(gallery, Shape.ROW, unit_vectors(2))
    remove(gallery, stored(store, gallery, receipt), made, 0)
    ids = [template.template_id for template in made.templates]
    for wanted in (ids, [ids[1]], [bytes(16)]):
        with pytest.raises(NotFound, match="is not removed"):
            store.erasures.of_ids(gallery.gallery, wanted)
