"""The mirrored catalogue: an operator that lies about the past is noticed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from underseal_auditor.mirror import Changes, Mirror
from underseal_auditor.store.database import Database
from underseal_auditor.verify.catalogue import CatalogueEntry
from underseal_core.errors import Damaged, InvalidInput, NotFound
from underseal_core.snapshot import LiveEntry, snapshot_root
from underseal_core.statements import Pin, Snapshot, Targets

SERVER = "server"
GALLERY = "missing"


def entry(slot: int, added: int = 1, block: int = 0, removed: int = 0) -> CatalogueEntry:
    return CatalogueEntry(
        template_id=secrets.token_bytes(16),
        subject_id=secrets.token_bytes(16),
        block=block,
        slot=slot,
        sealed_label=b"sealed" + bytes([slot]),
        unit_sha256=secrets.token_bytes(32),
        added_version=added,
        removed_version=removed,
    )


class Feed:
    """Says what it is told to say."""

    def __init__(self, *pieces: Changes) -> None:
        self.pieces = pieces
        self.after: list[int] = []

    def pin(self, gallery: str) -> Pin:
        raise NotImplementedError

    def changes(self, gallery: str, after_version: int) -> Iterator[Changes]:
        self.after.append(after_version)
        yield from self.pieces


def told(*entries: CatalogueEntry, version: int) -> Feed:
    return Feed(Changes(entries, 0), Changes((), version))


def snapshot(version: int, *entries: CatalogueEntry) -> Snapshot:
    live = [
        LiveEntry(
            e.block,
            e.slot,
            e.template_id,
            e.subject_id,
            hashlib.sha256(e.sealed_label).digest(),
            e.unit_sha256,
        )
        for e in entries
    ]
    root = snapshot_root(GALLERY, version, live)
    return Snapshot(gallery=GALLERY, version=version, root=root, templates=len(live))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "registrar.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def mirror(database: Database) -> Mirror:
    return Mirror(database)


def test_views_of_old_and_new_versions(mirror: Mirror) -> None:
    a, b = entry(0), entry(1, added=2)
    mirror.update(SERVER, GALLERY, told(a, version=1))
    mirror.update(SERVER, GALLERY, told(b, version=2))
    gone = replace(a, removed_version=3, sealed_label=b"")
    feed = told(gone, version=3)
    assert mirror.update(SERVER, GALLERY, feed) == 3
    assert feed.after == [2]
    assert mirror.view(SERVER, snapshot(1, a)).templates == 1
    both = mirror.view(SERVER, snapshot(2, a, b))
    assert list(both.blocks[0].slots) == [0, 1]
    assert list(both.blocks[0].current) == [False, True]
    assert mirror.view(SERVER, snapshot(3, b)).expected(Targets()) == ((0,), 1)


def test_label_of_a_removed_template_is_dropped(mirror: Mirror, database: Database) -> None:
    a = entry(0)
    mirror.update(SERVER, GALLERY, told(a, version=1))
    assert mirror.sealed_label(SERVER, GALLERY, a.template_id) == a.sealed_label
    mirror.update(SERVER, GALLERY, told(replace(a, removed_version=2), version=2))
    with pytest.raises(NotFound):
        mirror.sealed_label(SERVER, GALLERY, a.template_id)
    with database.transaction() as connection:
        assert connection.execute("SELECT sealed_label FROM templates").fetchall() == [(b"",)]


def test_template_that_came_and_went(mirror: Mirror) -> None:
    brief = entry(0, added=1, removed=2)
    mirror.update(SERVER, GALLERY, told(brief, version=2))
    assert mirror.view(SERVER, snapshot(2)).templates == 0
    assert mirror.view(SERVER, snapshot(1, brief)).templates == 1


def test_wrong_root_count_or_version(mirror: Mirror) -> None:
    a = entry(0)
    mirror.update(SERVER, GALLERY, told(a, version=1))
    honest = snapshot(1, a)
    mirror.view(SERVER, honest)
    for lie in (
        snapshot(1, entry(0)),
        honest.model_copy(update={"templates": 2}),
        snapshot(2, a),
    ):
        with pytest.raises(Damaged):
            mirror.view(SERVER, lie)


@pytest.mark.parametrize(
    "change",
    [
        {"slot": 5},
        {"block": 5},
        {"subject_id": b"s" * 16},
        {"unit_sha256": b"u" * 32},
        {"added_version": 2},
        {"removed_version": 0},
        {"removed_version": 1},
    ],
)
def test_history_does_not_change(mirror: Mirror, change: dict[str, object]) -> None:
    a = entry(0)
    mirror.update(SERVER, GALLERY, told(a, version=1))
    lie = replace(a, **{"removed_version": 2, **change})  # type: ignore[arg-type]  # by name
    with pytest.raises(Damaged, match="contradicts"):
        mirror.update(SERVER, GALLERY, told(lie, version=2))
    assert mirror.view(SERVER, snapshot(1, a)).templates == 1


def test_removed_template_does_not_come_back(mirror: Mirror) -> None:
    a = entry(0)
    mirror.update(SERVER, GALLERY, told(a, version=1))
    mirror.update(SERVER, GALLERY, told(replace(a, removed_version=2), version=2))
    for version in (0, 3):
        with pytest.raises(Damaged, match="contradicts"):
            mirror.update(SERVER, GALLERY, told(replace(a, removed_version=version), version=3))


def test_template_planted_in_the_past(mirror: Mirror) -> None:
    mirror.update(SERVER, GALLERY, told(entry(0), version=5))
    with pytest.raises(Damaged, match="not there before"):
        mirror.update(SERVER, GALLERY, told(entry(1, added=3), version=6))


def test_rollback(mirror: Mirror) -> None:
    mirror.update(SERVER, GALLERY, told(entry(0), version=5))
    with pytest.raises(Damaged, match="went back"):
        mirror.update(SERVER, GALLERY, told(version=4))


def test_feed_that_breaks_off(mirror: Mirror) -> None:
    with pytest.raises(Damaged):
        mirror.update(SERVER, GALLERY, Feed(Changes((entry(0),), 0)))
    assert mirror.galleries() == []


def test_feed_that_goes_on_after_its_end(mirror: Mirror) -> None:
    with pytest.raises(Damaged, match="goes on"):
        mirror.update(SERVER, GALLERY, Feed(Changes((), 1), Changes((entry(0),), 1)))


def test_template_from_the_future(mirror: Mirror) -> None:
    with pytest.raises(Damaged, match="future"):
        mirror.update(SERVER, GALLERY, told(entry(0, added=3), version=2))


def test_two_templates_in_one_slot(mirror: Mirror) -> None:
    a, b = entry(0), entry(0)
    mirror.update(SERVER, GALLERY, told(a, b, version=1))
    with pytest.raises(Damaged, match="one slot"):
        mirror.view(SERVER, snapshot(1, a, b))


def test_slot_that_is_used_again(mirror: Mirror) -> None:
    a, b = entry(0), entry(0, added=3)
    mirror.update(SERVER, GALLERY, told(a, version=1))
    mirror.update(SERVER, GALLERY, told(replace(a, removed_version=2), b, version=3))
    assert mirror.view(SERVER, snapshot(3, b)).templates == 1


def test_galleries_of_two_servers_are_apart(mirror: Mirror) -> None:
    a, b = entry(0), entry(0)
    mirror.update("north", GALLERY, told(a, version=1))
    mirror.update("south", GALLERY, told(b, version=1))
    assert mirror.view("north", snapshot(1, a)).root != mirror.view("south", snapshot(1, b)).root
    assert [(g.server, g.templates) for g in mirror.galleries()] == [("north", 1), ("south", 1)]


def test_forgotten_gallery_is_mirrored_anew(mirror: Mirror) -> None:
    mirror.update(SERVER, GALLERY, told(entry(0), version=5))
    mirror.forget(SERVER, GALLERY)
    with pytest.raises(NotFound):
        mirror.forget(SERVER, GALLERY)
    assert mirror.update(SERVER, GALLERY, told(entry(0), version=1)) == 1


def test_targets_that_are_not_enrolled(mirror: Mirror) -> None:
    a, b = entry(0), entry(0, block=1)
    mirror.update(SERVER, GALLERY, told(a, b, version=1))
    view = mirror.view(SERVER, snapshot(1, a, b))
    assert view.expected(Targets(template_ids=(b.template_id.hex(),))) == ((1,), 1)
    assert view.expected(Targets(subject_id=a.subject_id.hex())) == ((0,), 1)
    with pytest.raises(NotFound):
        view.expected(Targets(subject_id="0" * 32))


def test_second_registrar_on_the_same_file(database: Database, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot open"):
        Database(tmp_path / "registrar.sqlite")


def test_file_of_a_newer_program(tmp_path: Path) -> None:
    opened = Database(tmp_path / "new.sqlite")
    with opened.transaction() as connection:
        connection.execute("PRAGMA user_version = 99")
    opened.close()
    with pytest.raises(InvalidInput, match="newer"):
        Database(tmp_path / "new.sqlite")
