"""Enrolment, removal and blocks on a real data folder, with real keys."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from tests import store_fixtures
from tests.server_fixtures import (
    UnitContent,
    Vectors,
    labelled,
    show_pending,
    signed_for,
    unit_vectors,
)
from tests.store_fixtures import LAB, enrol, opened, scores, spec
from underseal_core.errors import (
    Conflict,
    Damaged,
    InvalidInput,
    MalformedCiphertext,
    NotFound,
    UndersealError,
)
from underseal_core.gallery.block_file import read_header
from underseal_core.gallery.files import local_file
from underseal_core.gallery.unit import Shape, usable_slots
from underseal_core.scheme.ciphertext import Residues
from underseal_core.scheme.evaluation import Evaluator
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import (
    FeedPage,
    NewTemplate,
    Receipt,
    State,
    TemplateFilter,
)
from underseal_server.store.schema import requests
from underseal_server.store.store import Store

evaluator, store = store_fixtures.evaluator, store_fixtures.store


def test_rows_and_columns_share_a_block_and_every_slot_has_its_score(
    store: Store, evaluator: Evaluator
) -> None:
    gallery = opened(store, evaluator)
    vectors = unit_vectors(3 + 1 + 20)
    rows, single, bulk = vectors[:3], vectors[3:4], vectors[4:]
    receipts = [
        enrol(gallery, Shape.ROW, rows)[0],
        enrol(gallery, Shape.ROW, single)[0],
        enrol(gallery, Shape.COLUMNS, bulk)[0],
    ]
    slots = [slot for receipt in receipts for slot in receipt.placement.slots()]
    assert {receipt.placement.block for receipt in receipts} == {0}
    assert slots[:4] == [0, 8, 16, 1]
    got = scores(gallery, evaluator, vectors[5])
    assert np.abs(got[slots] - vectors @ vectors[5]).max() < 2**-9
    view = gallery.view()
    assert (view.version, view.templates, list(view.blocks)) == (3, 24, [0])


def test_state_survives_a_restart(tmp_path: Path, evaluator: Evaluator) -> None:
    vectors = unit_vectors(30)
    first = Store(tmp_path)
    gallery = opened(first, evaluator)
    enrol(gallery, Shape.ROW, vectors[:2])
    enrol(gallery, Shape.COLUMNS, vectors[2:])
    view, tiles = gallery.view(), np.array(gallery.tiles(0))
    first.close()  # without a checkpoint: as after a crash
    second = Store(tmp_path)
    again = second.open_gallery(second.galleries.get("missing"), evaluator)
    assert again.view() == view
    assert np.array_equal(again.tiles(0), tiles)
    again.checkpoint()
    assert not again.unsaved()
    second.close()


def test_a_removed_unit_leaves_no_trace_in_the_block(store: Store, evaluator: Evaluator) -> None:
    gallery = opened(store, evaluator)
    vectors = unit_vectors(12)
    enrol(gallery, Shape.ROW, vectors[:2])
    before = np.array(gallery.tiles(0))
    for shape in Shape:
        receipt, unit = enrol(gallery, shape, vectors[2:])
        assert not np.array_equal(gallery.tiles(0), before)
        stored = gallery._units.by_token(gallery.gallery, unit.token)
        assert stored is not None
        ids = [template.template_id for template in unit.templates]
        assert gallery.remove(stored, ids, None) == 10
        assert np.array_equal(gallery.tiles(0), before)
        assert gallery.view().templates == 2
        gallery.checkpoint()
        assert not gallery.files.path(unit.token).exists()
        # The freed slots are taken again.
        assert enrol(gallery, shape, vectors[2:])[0].placement == receipt.placement
        stored = gallery._units.live(gallery.gallery)[-1]
        ids = [
            t.template_id
            for t in gallery._templates.page(gallery.gallery, TemplateFilter(), (-1, -1), 99)
        ]
        gallery.remove(stored, ids, None)


def test_a_part_of_a_unit_dies_first_and_the_last_one_takes_the_unit_along(
    store: Store, evaluator: Evaluator
) -> None:
    gallery = opened(store, evaluator)
    empty = np.array(enrol_and_forget(gallery))
    _, unit = enrol(gallery, Shape.COLUMNS, unit_vectors(4))
    stored = gallery._units.by_token(gallery.gallery, unit.token)
    assert stored is not None
    ids = [template.template_id for template in unit.templates]
    assert gallery.remove(stored, ids[:3], None) == 3
    assert gallery.remove(stored, ids[:3], None) == 0
    view = gallery.view()
    assert view.templates == 1
    assert not np.array_equal(gallery.tiles(0), empty)
    pages = gallery._templates.changes(gallery.gallery, 0, 10)
    changes = [change for page in pages for change in page.templates]
    dead = [change for change in changes if change.removed_version]
    assert all(change.sealed_label == b"" for change in dead)
    assert gallery.remove(stored, ids, None) == 1
    assert gallery.view().blocks == {}
    assert np.array_equal(gallery.tiles(0), empty)


def enrol_and_forget(gallery: GalleryStore) -> Residues:
    """Make block 0 exist and be empty again."""
    _, unit = enrol(gallery, Shape.ROW, unit_vectors(1, seed=9))
    stored = gallery._units.by_token(gallery.gallery, unit.token)
    assert stored is not None
    gallery.remove(stored, [unit.templates[0].template_id], None)
    return gallery.tiles(0)


def test_a_repeated_token_gets_its_receipt_and_a_reused_one_is_refused(
    store: Store, evaluator: Evaluator
) -> None:
    gallery = opened(store, evaluator)
    vectors, templates, row = unit_vectors(2), labelled(2), [LAB.row(unit_vectors(2))]
    first, unit = enrol(gallery, Shape.ROW, vectors, templates, ciphertexts=row)
    again, _ = enrol(gallery, Shape.ROW, vectors, templates, unit.token, row)
    assert again.repeated and again.placement == first.placement
    assert gallery.view().templates == 2
    with pytest.raises(Conflict, match="token"):
        enrol(gallery, Shape.ROW, vectors, labelled(2), unit.token, row)
    with pytest.raises(Conflict, match="template id"):
        enrol(gallery, Shape.ROW, vectors, templates)
    assert (gallery.view().version, gallery.view().templates) == (1, 2)
    assert len(list(gallery.files._files.folder.iterdir())) == 1


def test_a_subject_has_a_limit(store: Store, evaluator: Evaluator) -> None:
    gallery = opened(store, evaluator)
    subject = secrets.token_bytes(16)
    enrol(gallery, Shape.ROW, unit_vectors(2), labelled(2, [subject] * 2))
    with pytest.raises(InvalidInput, match="more than 3 templates"):
        enrol(gallery, Shape.ROW, unit_vectors(2), labelled(2, [subject] * 2))
    enrol(gallery, Shape.ROW, unit_vectors(1), labelled(1, [subject]))
    assert gallery.view().templates == 3


def test_a_full_block_is_followed_by_another(store: Store, evaluator: Evaluator) -> None:
    gallery = opened(store, evaluator)
    vectors = unit_vectors(usable_slots(LAB.bundle.profile.degree, LAB.bundle.dimension))
    full, _ = enrol(gallery, Shape.COLUMNS, vectors)
    more, _ = enrol(gallery, Shape.ROW, vectors[:1])
    assert (full.placement.block, more.placement.block) == (0, 1)
    wanted = np.zeros(LAB.bundle.profile.degree)
    wanted[: len(vectors)] = vectors @ vectors[7]
    assert np.abs(scores(gallery, evaluator, vectors[7]) - wanted).max() < 2**-9
    assert abs(scores(gallery, evaluator, vectors[0], block=1)[0] - 1) < 2**-9


def test_the_bytes_of_a_gallery_are_those_of_its_files(store: Store, evaluator: Evaluator) -> None:
    gallery = opened(store, evaluator)
    full = unit_vectors(usable_slots(LAB.bundle.profile.degree, LAB.bundle.dimension))
    enrol(gallery, Shape.COLUMNS, full)
    enrol(gallery, Shape.ROW, full[:1])
    gallery.checkpoint()
    units, blocks = (list(store.folder.rglob(f"*.{kind}")) for kind in ("unit", "tiles"))
    assert (len(units), len(blocks)) == (2, 2)
    headers = sum(read_header(local_file(path))[1] for path in blocks)
    size = sum(path.stat().st_size for path in (*units, *blocks))
    assert store.bytes_stored(gallery.gallery, len(blocks)) == size - headers


def test_wrong_ciphertexts_are_refused_while_they_stream_in(
    store: Store, evaluator: Evaluator
) -> None:
    gallery = opened(store, evaluator)
    row = LAB.row(unit_vectors(1)).to_bytes()
    residue = bytearray(row)
    residue[8:12] = b"\xff\xff\xff\xff"
    for bad in (row[:-1], row + b"\0", bytes(residue), LAB.probe(unit_vectors(1)[0]).to_bytes()):
        with gallery.files.stage(Shape.ROW) as staged, pytest.raises(MalformedCiphertext):
            staged.write(bad)
    with gallery.files.stage(Shape.ROW) as staged:
        staged.write(row)
        with pytest.raises(MalformedCiphertext, match="here is more"):
            staged.write(row)
    assert list(gallery.files._files.folder.iterdir()) == []


@pytest.mark.parametrize("damage", ["tiles", "header", "length", "gone"])
def test_a_damaged_block_file_is_made_again_from_its_units(
    tmp_path: Path, evaluator: Evaluator, damage: str
) -> None:
    first = Store(tmp_path)
    gallery = opened(first, evaluator)
    enrol(gallery, Shape.ROW, unit_vectors(3))
    gallery.checkpoint()
    tiles, path = np.array(gallery.tiles(0)), gallery._blocks._checkpoints.folder / "0.tiles"
    first.close()
    data = bytearray(path.read_bytes())
    match damage:
        case "tiles":
            data[5000] ^= 1
        case "header":
            data[0] ^= 1
        case "length":
            del data[-4:]
    path.write_bytes(data)
    if damage == "gone":
        path.unlink()
    second = Store(tmp_path)
    again = second.open_gallery(second.galleries.get("missing"), evaluator)
    assert np.array_equal(again.tiles(0), tiles)
    second.close()


def test_a_damaged_unit_is_reported_and_never_used(tmp_path: Path, evaluator: Evaluator) -> None:
    first = Store(tmp_path)
    gallery = opened(first, evaluator)
    _, unit = enrol(gallery, Shape.COLUMNS, unit_vectors(3))
    gallery.checkpoint()
    path = gallery.files.path(unit.token)
    first.close()
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    second = Store(tmp_path)
    (gallery._blocks._checkpoints.folder / "0.tiles").unlink(missing_ok=True)
    again = second.open_gallery(second.galleries.get("missing"), evaluator)
    for use in (again.view, lambda: again.tiles(0)):
        with pytest.raises(Damaged, match="stored unit is damaged"):
            use()
    second.close()


def test_the_folder_is_used_by_one_server_only(store: Store) -> None:
    with pytest.raises(InvalidInput, match="another server"):
        Store(store.folder)


def test_galleries_have_one_meaning_per_name(store: Store) -> None:
    first = store.galleries.create(spec("a"), store.clock())
    assert store.galleries.create(spec("a"), store.clock()) == first
    with pytest.raises(Conflict):
        store.galleries.create(spec("a", per_subject=4), store.clock())
    store.galleries.create(spec("b"), store.clock())
    assert [gallery.name for gallery in store.galleries.page("", 10)] == ["a", "b"]
    assert [gallery.name for gallery in store.galleries.page("a", 10)] == ["b"]
    store.delete_gallery(first)
    with pytest.raises(NotFound):
        store.galleries.get("a")
    assert store.galleries.create(spec("a"), store.clock()).id != first.id


def test_a_request_id_is_good_for_one_use_until_it_expires(store: Store) -> None:
    used = "ab" * 16
    store.requests.claim(used, "agency", "2026-01-01T00:10:00Z", "2026-01-01T00:00:00Z")
    with pytest.raises(Conflict, match="duplicate request id"):
        store.requests.claim(used, "other", "2026-01-01T00:10:00Z", "2026-01-01T00:05:00Z")
    store.requests.claim(used, "agency", "2026-01-01T09:10:00Z", "2026-01-01T09:00:00Z")


def test_request_ids_that_have_expired_are_deleted_within_a_minute(store: Store) -> None:
    for number, (now, kept) in enumerate(
        [("09:00:10", 1), ("09:00:30", 2), ("09:01:05", 2), ("09:03:30", 1)]
    ):
        until = f"2026-01-01T09:{number:02}:{20 if number == 0 else 59}Z"
        store.requests.claim(f"{number:032x}", "agency", until, f"2026-01-01T{now}Z")
        with store._database.reading() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(requests)) == kept


def test_changes_show_one_consistent_state(store: Store, evaluator: Evaluator) -> None:
    gallery = opened(store, evaluator)
    _, one = enrol(gallery, Shape.ROW, unit_vectors(3))
    pages = gallery._templates.changes(gallery.gallery, 0, 2)
    assert next(pages) == FeedPage(1)
    (unit,) = next(pages).units
    assert (unit.token, unit.sha256, unit.receipt) == (one.token, one.sha256, one.receipt)
    page = next(pages)
    first, version = page.templates, page.version
    _, two = enrol(gallery, Shape.ROW, unit_vectors(1))
    stored = gallery._units.by_token(gallery.gallery, one.token)
    assert stored is not None
    gallery.remove(stored, [one.templates[2].template_id], None)
    rest = [change for page in pages for change in page.templates]
    assert version == 1
    assert [c.template_id for c in (*first, *rest)] == [t.template_id for t in one.templates]
    assert all(not change.removed_version and change.sealed_label for change in (*first, *rest))
    assert [(c.unit_token, c.place) for c in (*first, *rest)] == [
        (one.token, place) for place in range(3)
    ]
    newer = list(gallery._templates.changes(gallery.gallery, 1, 2))
    assert [entry.token for page in newer for entry in page.units] == [two.token]
    later = [change for page in newer for change in page.templates]
    assert {(c.template_id, c.removed_version > 0) for c in later} == {
        (two.templates[0].template_id, False),
        (one.templates[2].template_id, True),
    }
    assert hashlib.sha256(rest[0].sealed_label).digest() != hashlib.sha256(b"").digest()


def admit(
    gallery: GalleryStore, *units: tuple[Vectors, list[NewTemplate]]
) -> list[Receipt | UndersealError]:
    """Units of one row each, stored together and not shown."""
    with ExitStack() as stack:
        arrived = []
        for vectors, templates in units:
            staged = stack.enter_context(gallery.files.stage(Shape.ROW))
            staged.write(LAB.row(vectors).to_bytes())
            staged.sync()
            token, pin = secrets.token_bytes(16), gallery.gallery.spec.pin
            content = UnitContent(token, Shape.ROW, templates, staged, pin)
            arrived.append((signed_for(gallery.gallery.name, content), staged))
        return gallery.admit(arrived)


def test_units_are_stored_together_and_shown_together(store: Store, evaluator: Evaluator) -> None:
    gallery = opened(store, evaluator)
    vectors = unit_vectors(6)
    enrol(gallery, Shape.ROW, vectors[:1])
    before = gallery.view()
    units = [(vectors[i : i + 1], labelled(1)) for i in range(1, 6)]
    arrived = [outcome for outcome in admit(gallery, *units) if isinstance(outcome, Receipt)]
    assert [receipt.state for receipt in arrived] == [State.PENDING] * 5
    assert {receipt.version for receipt in arrived} == {0}
    assert gallery.view() == before
    assert [page.units for page in store.templates.changes(gallery.gallery, 1, 9)] == [()]
    assert store.units.pending_templates(gallery.gallery) == 5
    listed = store.templates.page(gallery.gallery, TemplateFilter(), (-1, -1), 9)
    assert [template.state for template in listed] == [State.ACTIVE] + [State.PENDING] * 5
    show_pending(gallery)
    after = gallery.view()
    assert (after.version, after.templates) == (before.version + 1, 6)
    feed = [u for page in store.templates.changes(gallery.gallery, 1, 9) for u in page.units]
    assert [unit.added_version for unit in feed] == [after.version] * 5
    slots = [0] + [receipt.placement.first_slot for receipt in arrived]
    assert scores(gallery, evaluator, vectors[3])[slots] == pytest.approx(
        vectors @ vectors[3], abs=1e-3
    )


def test_one_refused_unit_does_not_hold_up_the_others(store: Store, evaluator: Evaluator) -> None:
    gallery = opened(store, evaluator)
    vectors, taken, subject = unit_vectors(1), labelled(1), secrets.token_bytes(16)
    enrol(gallery, Shape.ROW, vectors, taken)
    first, again, many, last = admit(
        gallery,
        (vectors, labelled(1)),
        (vectors, taken),
        (unit_vectors(4), labelled(4, [subject] * 4)),
        (vectors, labelled(1)),
    )
    assert isinstance(again, Conflict)
    assert isinstance(many, InvalidInput)
    assert isinstance(first, Receipt)
    assert isinstance(last, Receipt)
    files = {path.stem for path in gallery.files.path(b"").parent.glob("*.unit")}
    assert {first.token.hex(), last.token.hex()} < files
    assert len(files) == 3
    show_pending(gallery)
    assert gallery.view().templates == 3


def test_what_is_pending_at_the_end_is_shown_after_the_start(
    tmp_path: Path, evaluator: Evaluator
) -> None:
    store = Store(tmp_path)
    vectors = unit_vectors(2)
    (receipt,) = admit(opened(store, evaluator), (vectors, labelled(2)))
    assert isinstance(receipt, Receipt)
    store.close()
    store = Store(tmp_path)
    gallery = opened(store, evaluator)
    assert [unit.token for unit in gallery.pending()] == [receipt.token]
    assert enrol(gallery, Shape.ROW, vectors[:1])[0].placement.first_slot != (
        receipt.placement.first_slot
    )
    assert gallery.view().templates == 3
    assert scores(gallery, evaluator, vectors[0])[0] == pytest.approx(1, abs=1e-3)
    store.close()
