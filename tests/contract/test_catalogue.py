"""What the catalogue of a store knows and finds, over every kind."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import numpy as np
import pytest

from tests import storage_kinds
from tests.archive_fixtures import NAME, Folder, amend, enrol, remove
from tests.server_fixtures import ENROLLER
from tests.storage_kinds import begin, checked, opened_place
from tests.unit.server.kill_child import Place
from underseal_core.errors import Conflict, Damaged, InvalidInput, NotFound
from underseal_core.gallery.unit import Shape
from underseal_core.provenance import EnrolReceipt, template_leaf
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.history import Snapshots
from underseal_server.store.records import (
    Archive,
    Gallery,
    NewUnit,
    Relabelling,
    TemplateFilter,
    View,
)

places = storage_kinds.places
place = storage_kinds.place


class Clock:
    """A day later whenever it is asked to."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def next_day(self) -> str:
        self.moment += timedelta(days=1)
        return self.moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def relabelling(folder: Folder, unit: NewUnit, labels: Mapping[bytes, bytes]) -> Relabelling:
    """New labels for a unit, signed for as it is now."""
    stored = folder.store.units.by_token(folder.store.galleries.get(NAME), unit.token)
    assert stored is not None
    held = folder.store.labels.unit(stored.id)
    hashes = {one: hashlib.sha256(label).digest() for one, label in labels.items()}
    leaves = [
        template_leaf(
            one.template_id, one.subject_id, hashes.get(one.template_id) or one.label_sha256
        )
        for one in held.leaves
    ]
    receipt = EnrolReceipt.parse(held.receipt.payload).relabelled(leaves, "2026-03-02T00:00:00Z")
    return Relabelling(unit.token, MappingProxyType(dict(labels)), receipt.sign(ENROLLER))


def sealed(folder: Folder, row: Gallery, after: int = 0) -> dict[bytes, bytes]:
    """Labels as auditors are told them."""
    pages = folder.store.templates.changes(row, after, 2)
    return {one.template_id: one.sealed_label for page in pages for one in page.templates}


def test_labels_change_by_receipt(place: Place) -> None:
    with opened_place(place) as folder:
        begin(folder)
        gallery = folder.gallery()
        unit, other = enrol(gallery, Shape.ROW, 3, 1), enrol(gallery, Shape.COLUMNS, 2, 2)
        first, second, _ = (one.template_id for one in unit.templates)
        change = relabelling(folder, unit, {second: b"new label"})
        stale = relabelling(folder, unit, {first: b"too late"})
        assert folder.store.labels.change(gallery.gallery, change) == 3
        assert folder.store.labels.change(gallery.gallery, change) == 3
        with pytest.raises(Conflict, match="relabelled meanwhile"):
            folder.store.labels.change(gallery.gallery, stale)
        wrong = relabelling(folder, unit, {first: b"one"})
        with pytest.raises(InvalidInput, match="not of these labels"):
            folder.store.labels.change(
                gallery.gallery, replace(wrong, labels=MappingProxyType({first: b"another"}))
            )
        foreign = relabelling(folder, unit, {other.templates[0].template_id: b"x"})
        with pytest.raises(NotFound, match="not in this unit"):
            folder.store.labels.change(gallery.gallery, foreign)
        told = sealed(folder, gallery.gallery, after=2)
        assert told == {second: b"new label"}
        (page,) = (p for p in folder.store.templates.changes(gallery.gallery, 2, 9) if p.relabelled)
        assert [(one.token, one.version) for one in page.relabelled] == [(unit.token, 3)]
    with opened_place(place) as folder:
        row = folder.store.galleries.get(NAME)
        wanted = {one.template_id: one.sealed_label for one in (*unit.templates, *other.templates)}
        assert sealed(folder, row) == {**wanted, second: b"new label"}
        folder.gallery().checkpoint()
    assert checked(place).accounted


def test_templates_are_found_by_what_they_are(place: Place) -> None:
    clock = Clock()
    with opened_place(place, clock) as folder:
        begin(folder)
        gallery = folder.gallery()
        days = [clock.next_day()]
        first = enrol(gallery, Shape.ROW, 3, 1, keep_until="2026-03-09T00:00:00Z")
        days.append(clock.next_day())
        second = enrol(gallery, Shape.COLUMNS, 5, 2)
        days.append(clock.next_day())
        third = enrol(gallery, Shape.ROW, 2, 3, keep_until="2026-03-08T00:00:00Z", show=False)
        remove(folder, gallery, second, 2)

        def count(**wanted: object) -> int:
            chosen = TemplateFilter(**wanted)  # type: ignore[arg-type]
            number = folder.store.templates.count(gallery.gallery, chosen)
            assert len(pages(folder, gallery.gallery, chosen)) == number
            return number

        assert count() == 8
        assert count(enrolled_from=days[1]) == 5
        assert count(enrolled_before=days[1]) == 3
        assert count(enrolled_from=days[1], enrolled_before=days[2]) == 3
        assert (count(enrolled_by="agency"), count(enrolled_by="other")) == (8, 0)
        assert count(unit_token=second.token) == 3
        assert count(subject_id=third.templates[1].subject_id) == 1
        assert (count(over_at="2026-03-08T00:00:00Z"), count(over_at="2026-03-31T00:00:00Z")) == (
            2,
            5,
        )
        told = folder.store.templates.statistics(gallery.gallery)
        assert (told.pending, told.active, told.removed, told.subjects) == (2, 6, 2, 8)
        assert (told.oldest_enrolled_at, told.newest_enrolled_at) == (days[0], days[2])
        assert told.next_keep_until == "2026-03-08T00:00:00Z"
        begin(folder, "empty")
        empty = folder.store.templates.statistics(folder.store.galleries.get("empty"))
        assert (empty.active, empty.pending, empty.oldest_enrolled_at) == (0, 0, "")
        check_ids(folder, gallery, first, third)


def pages(folder: Folder, row: Gallery, wanted: TemplateFilter) -> list[tuple[int, int]]:
    """Blocks and slots of all that are wanted, page by page, in order."""
    found: list[tuple[int, int]] = []
    while page := folder.store.templates.page(row, wanted, found[-1] if found else (-1, -1), 2):
        found += [(one.block, one.slot) for one in page]
    assert found == sorted(set(found))
    return found


def check_ids(folder: Folder, gallery: GalleryStore, first: NewUnit, third: NewUnit) -> None:
    """Find units by their templates; a search sees no PENDING ones."""
    templates, row = folder.store.templates, gallery.gallery
    ids = [one.template_id for one in (*first.templates, *third.templates)]
    by_unit = templates.units_of_templates(row, ids)
    assert sorted(len(some) for some in by_unit.values()) == [2, 3]
    with pytest.raises(NotFound):
        templates.units_of_templates(row, [*ids, bytes(16)])
    number, receipt = templates.enrolment(row, ids[0])
    assert (number, receipt.token) == (1, first.token.hex())
    with pytest.raises(NotFound, match="not enrolled"):
        templates.enrolment(row, ids[3])
    assert templates.units_of_subject(row, third.templates[0].subject_id) == {3: [ids[3]]}


def test_templates_leave_when_their_time_is_over(place: Place) -> None:
    clock = Clock()
    with opened_place(place, clock) as folder:
        begin(folder)
        gallery = folder.gallery()
        due, moment = folder.store.templates.units_past_their_time, clock.next_day()
        enrol(gallery, Shape.ROW, 1, 1)
        before = np.array(gallery.tiles(0))
        leaving = enrol(gallery, Shape.COLUMNS, 2, 2, keep_until="2026-03-04T00:00:00Z")
        assert due(gallery.gallery, moment) == {}
        clock.next_day()
        late = due(gallery.gallery, clock.next_day())
        assert late == {2: [one.template_id for one in leaving.templates]}
        (unit,) = folder.store.units.by_ids(list(late))
        assert gallery.remove(unit, late[unit.id], None) == 2
        assert due(gallery.gallery, clock.next_day()) == {}
        assert np.array_equal(gallery.tiles(0), before)
        removed = folder.store.erasures.page(gallery.gallery, b"", 0, 9)
        assert [one.moment for one in removed] == ["2026-03-04T00:00:00Z"] * 2
        gallery.checkpoint()
        gallery.view()
    assert checked(place).accounted


def test_versions_that_were_named_and_archives_are_remembered(place: Place) -> None:
    with opened_place(place) as folder:
        begin(folder)
        gallery, row = folder.gallery(), folder.store.galleries.get(NAME)
        units = []
        for number in range(3):
            units.append(enrol(gallery, Shape.ROW, 1, number + 1))
            gallery.view()
        snapshots = folder.store.snapshots
        assert [one.version for one in snapshots.all(row)] == [1, 2, 3]
        few = Snapshots(folder.store.database, kept=2)
        few.note(row, View(9, "9" * 64, 3, MappingProxyType({})), "2026-03-01T00:00:00Z")
        assert [one.version for one in snapshots.all(row)] == [3, 9]
        with pytest.raises(Damaged, match="not what it was at version 9"):
            few.note(row, View(9, "8" * 64, 3, MappingProxyType({})), "2026-03-02T00:00:00Z")
        notes, moment = folder.store.archives, "2026-03-01T00:00:00Z"
        made = [Archive(str(n) * 32, n, "a" * 64, "b" * 64, moment) for n in (1, 2, 3)]
        for one in (*reversed(made), made[0]):
            notes.note(row, one)
        assert notes.all(NAME) == made
        ids = [unit.templates[0].template_id for unit in units]
        assert notes.holding(row, [ids[1]]) == made[1:]
        remove(folder, gallery, units[0], 1)
        assert notes.holding(row, [ids[0]]) == made
        notes.forget(row, made[1].archive_id)
        folder.store.delete_gallery(row)
        assert notes.all(NAME) == [made[0], made[2]]


def test_what_auditors_erase_is_erased_and_said(place: Place) -> None:
    with opened_place(place) as folder:
        begin(folder)
        gallery = folder.gallery()
        row, columns = enrol(gallery, Shape.ROW, 3, 1), enrol(gallery, Shape.COLUMNS, 4, 2)
        for unit in (row, columns):
            remove(folder, gallery, unit, 2)
            amend(folder, gallery, unit, 1)
        live = folder.store.units.live(gallery.gallery)
        assert [unit.erased for unit in live] == [(0,), (0,)]
        names = set(folder.store.folders(gallery.gallery).units.sizes())
        assert names == {f"{unit.name.hex()}.unit" for unit in live}
        view, tiles = gallery.view(), np.array(gallery.tiles(0))
        found = folder.store.erasures.page(gallery.gallery, b"", 0, 9)
        assert [one.place for one in found] == [0, 1, 0, 1]
        assert [one.amendment is not None for one in found] == [True] * 4
        assert folder.store.erasures.page(gallery.gallery, b"", found[2].number, 9) == found[3:]
        pages = folder.store.templates.changes(gallery.gallery, 0, 100)
        amended = [one for page in pages for one in page.amended]
        assert [one.token for one in amended] == [row.token, columns.token]
        again = enrol(gallery, Shape.ROW, 1, 3)
    with opened_place(place) as folder:
        gallery = folder.gallery()
        assert gallery.view().version == view.version + 1
        remove(folder, gallery, again, 1)
        assert np.array_equal(gallery.tiles(0), tiles)
        gallery.checkpoint()
        gallery.view()
    assert checked(place).accounted
