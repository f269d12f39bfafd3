"""The mirrored catalogue: an operator that lies about the past is noticed."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.catalogue_fixtures import live_entry, signed_unit, templates
from underseal_auditor.feed import CatalogueFeed, Changes
from underseal_auditor.mirror import Mirror
from underseal_auditor.store.database import Database
from underseal_auditor.verify.catalogue import CatalogueEntry, CatalogueUnit
from underseal_auditor.verify.provenance import check_matches
from underseal_core.errors import Damaged, InvalidInput, NotFound, PermissionRefused
from underseal_core.gallery.unit import Placement, Shape
from underseal_core.provenance import EnrolReceipt
from underseal_core.signing import Identity
from underseal_core.snapshot import snapshot_root
from underseal_core.statements import (
    BlockTiles,
    Match,
    MatchedTemplate,
    Pin,
    Release,
    SearchRequest,
    Snapshot,
    Targets,
    Wanted,
)

SERVER = "server"
GALLERY = "missing"
PIN = Pin(model_id="model", model_dimension=8, profile="swift", key_epoch="ab" * 32)
AGENCY = Identity.generate()
ENROLLERS = {"agency": AGENCY.public_key}
TILES = "7" * 64

One = tuple[CatalogueUnit, CatalogueEntry]
"""A unit of one template."""


def one(slot: int, added: int = 1, block: int = 0, removed: int = 0) -> One:
    (entry,) = templates(secrets.token_bytes(16), [b"sealed" + bytes([slot])])
    place = Placement(block, slot, 8, 1)
    unit = signed_unit(GALLERY, PIN, place, [entry], AGENCY, shape=Shape.ROW, version=added)
    return unit, replace(entry, removed_version=removed)


def gone(what: One, version: int) -> CatalogueEntry:
    return replace(what[1], removed_version=version, sealed_label=b"")


class Feed:
    """Says what it is told to say."""

    def __init__(self, *pieces: Changes) -> None:
        self.pieces = pieces
        self.after: list[int] = []

    def pin(self, gallery: str) -> Pin:
        return PIN

    def changes(self, gallery: str, after_version: int) -> Iterator[Changes]:
        self.after.append(after_version)
        yield from self.pieces


def told(*news: One | CatalogueEntry, version: int) -> Feed:
    """A feed of new units, and of templates removed from old ones."""
    units = tuple(new[0] for new in news if isinstance(new, tuple))
    entries = tuple(new[1] if isinstance(new, tuple) else new for new in news)
    return Feed(Changes(units, (), 0), Changes((), entries, 0), Changes((), (), version))


def update(mirror: Mirror, feed: CatalogueFeed, server: str = SERVER) -> int:
    return mirror.update(server, GALLERY, feed, PIN, ENROLLERS)


def snapshot(version: int, *news: One) -> Snapshot:
    live = [live_entry(*new) for new in news]
    blocks = sorted({entry.block for entry in live})
    root = snapshot_root(GALLERY, version, live, dict.fromkeys(blocks, TILES))
    return Snapshot(
        gallery=GALLERY,
        version=version,
        root=root,
        templates=len(live),
        blocks=tuple(BlockTiles(block=block, tiles_root=TILES) for block in blocks),
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "registrar.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def mirror(database: Database) -> Mirror:
    return Mirror(database)


def test_views_of_old_and_new_versions(mirror: Mirror) -> None:
    a, b = one(0), one(1, added=2)
    update(mirror, told(a, version=1))
    update(mirror, told(b, version=2))
    feed = told(gone(a, 3), version=3)
    assert update(mirror, feed) == 3
    assert feed.after == [2]
    assert mirror.view(SERVER, snapshot(1, a)).templates == 1
    both = mirror.view(SERVER, snapshot(2, a, b))
    assert list(both.blocks[0].slots) == [0, 1]
    assert list(both.blocks[0].current) == [False, True]
    assert mirror.view(SERVER, snapshot(3, b)).expected(Targets()) == ((0,), 1)


def test_a_view_reads_the_blocks_that_changed_and_is_that_of_a_fresh_start(
    mirror: Mirror, database: Database
) -> None:
    """Whatever came and went, at the newest version and at any one before."""
    chance = random.Random(20261122)
    there: list[One] = []
    at: dict[int, list[One]] = {}
    for version in range(1, 31):
        if there and chance.random() < 0.4:
            leaving = there.pop(chance.randrange(len(there)))
            update(mirror, told(gone(leaving, version), version=version))
        else:
            taken = {(unit.placement.block, unit.placement.first_slot) for unit, _ in there}
            free = [(b, s) for b in range(4) for s in range(8) if (b, s) not in taken]
            block, slot = chance.choice(free)
            there.append(one(slot, added=version, block=block))
            update(mirror, told(there[-1], version=version))
        at[version] = list(there)
        for seen in {version, chance.randint(1, version)}:
            named = snapshot(seen, *at[seen])
            view, fresh = mirror.view(SERVER, named), Mirror(database).view(SERVER, named)
            assert view.root == fresh.root == named.root
            for place, held in fresh.blocks.items():
                assert view.blocks[place].entries == held.entries
                assert np.array_equal(view.blocks[place].current, held.current)
    a = one(7, added=31, block=2)
    before = mirror.view(SERVER, snapshot(30, *there))
    update(mirror, told(a, version=31))
    after = mirror.view(SERVER, snapshot(31, *there, a))
    same = [n for n, block in after.blocks.items() if block is before.blocks.get(n)]
    assert same == sorted(set(after.blocks) - {2})


def test_label_of_a_removed_template_is_dropped(mirror: Mirror, database: Database) -> None:
    a = one(0)
    update(mirror, told(a, version=1))
    assert mirror.sealed_label(SERVER, GALLERY, a[1].template_id) == a[1].sealed_label
    update(mirror, told(gone(a, 2), version=2))
    with pytest.raises(NotFound):
        mirror.sealed_label(SERVER, GALLERY, a[1].template_id)
    with database.transaction() as connection:
        assert connection.execute("SELECT sealed_label FROM templates").fetchall() == [(b"",)]


def test_template_that_came_and_went(mirror: Mirror) -> None:
    brief = one(0, added=1, removed=2)
    update(mirror, told(brief, version=2))
    assert mirror.view(SERVER, snapshot(2)).templates == 0
    assert mirror.view(SERVER, snapshot(1, brief)).templates == 1


def test_wrong_root_count_or_version(mirror: Mirror) -> None:
    a = one(0)
    update(mirror, told(a, version=1))
    honest = snapshot(1, a)
    mirror.view(SERVER, honest)
    for lie in (
        snapshot(1, one(0)),
        honest.model_copy(update={"templates": 2}),
        snapshot(2, a),
    ):
        with pytest.raises(Damaged):
            mirror.view(SERVER, lie)


@pytest.mark.parametrize(
    "change",
    [
        {"place": 1},
        {"unit_token": b"t" * 16},
        {"subject_id": b"s" * 16},
        {"label_sha256": b"l" * 32},
        {"removed_version": 0},
    ],
)
def test_history_does_not_change(mirror: Mirror, change: dict[str, object]) -> None:
    a = one(0)
    update(mirror, told(a, version=1))
    lie = replace(gone(a, 2), **change)  # type: ignore[arg-type]  # by name
    with pytest.raises(Damaged, match="contradicts"):
        update(mirror, told(lie, version=2))
    assert mirror.view(SERVER, snapshot(1, a)).templates == 1


def test_removal_in_the_past(mirror: Mirror) -> None:
    a = one(0)
    update(mirror, told(a, version=2))
    with pytest.raises(Damaged, match="not there before"):
        update(mirror, told(gone(a, 2), version=3))


def test_unit_does_not_come_again(mirror: Mirror) -> None:
    """Nor does its token with another content."""
    a = one(0)
    update(mirror, told(a, version=1))
    again = (replace(a[0], added_version=2), a[1])
    (other,) = templates(a[0].token, [b"other"])
    same_token = signed_unit(
        GALLERY, PIN, a[0].placement, [other], AGENCY, shape=Shape.ROW, version=2
    )
    for lie in (again, (same_token, other)):
        with pytest.raises(Damaged, match="contradicts"):
            update(mirror, told(lie, version=2))


def test_removed_template_does_not_come_back(mirror: Mirror) -> None:
    a = one(0)
    update(mirror, told(a, version=1))
    update(mirror, told(gone(a, 2), version=2))
    for version in (0, 3):
        with pytest.raises(Damaged, match="contradicts"):
            update(mirror, told(replace(gone(a, 2), removed_version=version), version=3))


def test_template_planted_in_the_past(mirror: Mirror) -> None:
    update(mirror, told(one(0), version=5))
    with pytest.raises(Damaged, match="not there before"):
        update(mirror, told(one(1, added=3), version=6))


def test_origin_of_a_template_stays_when_it_is_removed(mirror: Mirror) -> None:
    many = templates(secrets.token_bytes(16), [bytes([i]) for i in range(7)])
    unit = signed_unit(GALLERY, PIN, Placement(3, 8, 1, 7), many, AGENCY)
    update(mirror, Feed(Changes((unit,), tuple(many), 0), Changes((), (), 1)))
    update(mirror, told(replace(many[2], removed_version=2, sealed_label=b""), version=2))
    for place, entry in enumerate(many):
        origin = mirror.origin(SERVER, GALLERY, entry.template_id)
        ids = entry.template_id, entry.subject_id
        receipt = origin.open(AGENCY.public_key, *ids)
        assert (origin.place, receipt.client, receipt.templates) == (place, "agency", 7)
        with pytest.raises(Damaged):
            replace(origin, place=(place + 1) % 7).open(AGENCY.public_key, *ids)
    with pytest.raises(NotFound):
        mirror.origin(SERVER, GALLERY, bytes(16))


def test_rollback(mirror: Mirror) -> None:
    update(mirror, told(one(0), version=5))
    with pytest.raises(Damaged, match="went back"):
        update(mirror, told(version=4))


def test_feed_that_breaks_off(mirror: Mirror) -> None:
    a = one(0)
    with pytest.raises(Damaged):
        update(mirror, Feed(Changes((a[0],), (a[1],), 0)))
    assert mirror.galleries() == []


def test_feed_that_goes_on_after_its_end(mirror: Mirror) -> None:
    a = one(0)
    with pytest.raises(Damaged, match="goes on"):
        update(mirror, Feed(Changes((), (), 1), Changes((a[0],), (a[1],), 1)))


def test_template_from_the_future(mirror: Mirror) -> None:
    with pytest.raises(Damaged, match="future"):
        update(mirror, told(one(0, added=3), version=2))


def test_two_units_in_one_slot(mirror: Mirror) -> None:
    a, b = one(0), one(0, added=2)
    with pytest.raises(Damaged, match="one slot"):
        update(mirror, told(a, b, version=2))
    update(mirror, told(a, version=1))
    with pytest.raises(Damaged, match="one slot"):
        update(mirror, told(b, version=2))


def test_two_units_in_one_slot_for_a_while(mirror: Mirror) -> None:
    """At version 2 both were there, whatever is left of them now."""
    a, b = one(0, removed=3), one(0, added=2)
    with pytest.raises(Damaged, match="one slot"):
        update(mirror, told(a, b, version=3))


def test_dead_slot_of_a_live_unit_is_taken(mirror: Mirror) -> None:
    """Its ciphertext is still there, and would be added to the newcomer's score."""
    both = templates(secrets.token_bytes(16), [b"a", b"b"])
    unit = signed_unit(GALLERY, PIN, Placement(0, 0, 1, 2), both, AGENCY)
    feed = Feed(
        Changes((unit,), (both[0], replace(both[1], removed_version=2)), 0), Changes((), (), 2)
    )
    update(mirror, feed)
    with pytest.raises(Damaged, match="one slot"):
        update(mirror, told(one(1, added=3), version=3))


def test_slot_that_is_used_again(mirror: Mirror) -> None:
    a, b = one(0), one(0, added=3)
    update(mirror, told(a, version=1))
    update(mirror, told(gone(a, 2), b, version=3))
    history = mirror.history(SERVER, GALLERY)
    assert history.at(3) == {0: {b[0].token}}
    assert history.at(2) == {}
    assert history.at(1) == {0: {a[0].token}}
    assert mirror.view(SERVER, snapshot(3, b)).templates == 1


def test_galleries_of_two_servers_are_apart(mirror: Mirror) -> None:
    a, b = one(0), one(0)
    update(mirror, told(a, version=1), "north")
    update(mirror, told(b, version=1), "south")
    assert mirror.view("north", snapshot(1, a)).root != mirror.view("south", snapshot(1, b)).root
    assert [(g.server, g.templates) for g in mirror.galleries()] == [("north", 1), ("south", 1)]


def test_forgotten_gallery_is_mirrored_anew(mirror: Mirror) -> None:
    update(mirror, told(one(0), version=5))
    mirror.forget(SERVER, GALLERY)
    with pytest.raises(NotFound):
        mirror.forget(SERVER, GALLERY)
    assert update(mirror, told(one(0), version=1)) == 1


def test_targets_that_are_not_enrolled(mirror: Mirror) -> None:
    a, b = one(0), one(0, block=1)
    update(mirror, told(a, b, version=1))
    view = mirror.view(SERVER, snapshot(1, a, b))
    assert view.expected(Targets(template_ids=(b[1].template_id.hex(),))) == ((1,), 1)
    assert view.expected(Targets(subject_ids=(a[1].subject_id.hex(),))) == ((0,), 1)
    both = Targets(subject_ids=(b[1].subject_id.hex(), a[1].subject_id.hex()))
    assert view.expected(both) == ((0, 1), 2)
    with pytest.raises(NotFound, match="the subject is not enrolled"):
        view.expected(Targets(subject_ids=("0" * 32,)))
    with pytest.raises(NotFound, match="1 of the 3 subjects"):
        view.expected(Targets(subject_ids=(*both.subject_ids, "0" * 32)))


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


def test_database_is_free_while_a_server_talks(mirror: Mirror, database: Database) -> None:
    """A server that is slow, or never ends, does not stop the registrar's other work."""
    a = one(0)
    seen: list[int] = []

    class Slow(Feed):
        def changes(self, gallery: str, after_version: int) -> Iterator[Changes]:
            for piece in self.pieces:
                with ThreadPoolExecutor(1) as other:
                    seen.append(other.submit(mirror.version, SERVER, GALLERY).result(timeout=20))
                yield piece

    assert update(mirror, Slow(*told(a, version=1).pieces)) == 1
    assert seen == [0, 0, 0]


def test_gallery_that_is_pinned_to_something_else(mirror: Mirror) -> None:
    update(mirror, told(one(0), version=1))
    other = PIN.model_copy(update={"key_epoch": "cd" * 32})
    with pytest.raises(Damaged, match="pinned to something else"):
        mirror.update(SERVER, GALLERY, told(version=2), other, ENROLLERS)


def release_of(*matches: Match) -> Release:
    return Release(
        request_id="1" * 32,
        request_sha256="2" * 64,
        result_sha256="3" * 64,
        policy_sha256="4" * 64,
        key_epoch=PIN.key_epoch,
        client="agency",
        purpose="missing-person",
        case_reference="case 7",
        matches=matches,
        compared=2,
        threshold="0.6",
        noise_std="0.1",
        values_charged=1,
        epoch_total=1,
        released_at="2026-05-01T12:00:00Z",
    )


def asking(*template_ids: bytes) -> SearchRequest:
    return SearchRequest(
        request_id="1" * 32,
        client="agency",
        gallery=GALLERY,
        pin=PIN,
        probe_sha256="2" * 64,
        purpose="missing-person",
        case_reference="case 7",
        wanted=Wanted(top_k=5),
        targets=Targets(template_ids=tuple(one.hex() for one in template_ids)),
        issued_at="2026-05-01T12:00:00Z",
        expires_at="2026-05-01T12:10:00Z",
    )


def test_released_matches_are_live_and_enrolled_by_someone_of_the_policy(mirror: Mirror) -> None:
    a, b = one(0), one(1)
    update(mirror, told(a, b, version=1))
    view = mirror.view(SERVER, snapshot(1, a, b))
    compared = view.compared(asking())
    unit, entry = a
    match = Match(
        subject_id=entry.subject_id.hex(),
        rank=1,
        score="0.71",
        templates=(
            MatchedTemplate(
                template_id=entry.template_id.hex(),
                label="Ada",
                enrolment_sha256=EnrolReceipt.parse(unit.receipt.payload).sha256(),
                enroller_key=AGENCY.public_key.hex(),
            ),
        ),
    )
    origin = mirror.origin(SERVER, GALLERY, entry.template_id)
    other = mirror.origin(SERVER, GALLERY, b[1].template_id)
    check_matches(release_of(match), GALLERY, compared, [origin], ENROLLERS)
    check_matches(release_of(), GALLERY, compared, [], ENROLLERS)
    stranger = match.model_copy(update={"subject_id": b[1].subject_id.hex()})
    for release, origins in (
        (release_of(match), []),
        (release_of(match), [other]),
        (release_of(stranger), [origin]),
    ):
        with pytest.raises(Damaged):
            check_matches(release, GALLERY, compared, origins, ENROLLERS)
    with pytest.raises(Damaged, match="was not to be compared with"):
        check_matches(release_of(match), "wanted", compared, [origin], ENROLLERS)
    others = view.compared(asking(b[1].template_id))
    with pytest.raises(Damaged, match="was not to be compared with"):
        check_matches(release_of(match), GALLERY, others, [origin], ENROLLERS)
    with pytest.raises(PermissionRefused, match="no enroller of the policy"):
        check_matches(release_of(match), GALLERY, compared, [origin], {"bureau": AGENCY.public_key})
    update(mirror, told(gone(a, 2), version=2))
    later = mirror.view(SERVER, snapshot(1, a, b))
    with pytest.raises(Damaged, match="was not to be compared with"):
        check_matches(release_of(match), GALLERY, later.compared(asking()), [origin], ENROLLERS)
