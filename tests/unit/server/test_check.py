"""Every kind of damage to a data folder is found, and repaired or named; no score is ever wrong."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.archive_fixtures import LAB, NAME, enrol, evaluator, filled, opened_folder, remove
from tests.server_fixtures import unit_vectors
from underseal_core.errors import Damaged, InvalidInput, UndersealError
from underseal_core.gallery.unit import Shape
from underseal_core.snapshot import LiveEntry, snapshot_root
from underseal_server.check import Checker
from underseal_server.checking.findings import Report
from underseal_server.store.records import FeedPage, View
from underseal_server.store.store import CATALOGUE

Names = Mapping[tuple[int, int], tuple[bytes, bytes]]
"""Template and subject by block and slot."""
SEED = 20261122
PROBE = LAB.probe(unit_vectors(1, LAB.dimension, 9)[0])


def checked(data: Path, *, repair: bool = False, copies: tuple[Path, ...] = ()) -> Report:
    options = {"deep": False, "threads": 1, "repair": repair}
    return Checker(data, lambda: None, copies=copies, **options).run()  # type: ignore[arg-type]


@dataclass(frozen=True)
class Answer:
    """All that comes of a search.

    ``scores``: sealed, by block. ``names``: as auditors take them from the feed; ``None`` when that
    is not what the root names, for they refuse then. ``told``: what the server says it is: version,
    root and number of templates.
    """

    scores: Mapping[int, bytes]
    names: Names | None
    told: tuple[int, str, int]


def answers(data: Path) -> Answer | None:
    """What a started server answers; ``None``: it refuses to."""
    try:
        with opened_folder(data) as folder:
            gallery = folder.gallery()
            view, probe = gallery.view(), evaluator().prepare(PROBE).probe
            sealed = {n: evaluator().score(probe, gallery.tiles(n)).to_bytes() for n in view.blocks}
            feed = list(folder.store.templates.changes(gallery.gallery, 0, 1000))
            told = view.version, view.root, view.templates
    except UndersealError:
        return None
    return Answer(sealed, names(feed, view), told)


def names(feed: Sequence[FeedPage], view: View) -> Names | None:
    """What auditors take for live; ``None``: what they are told is not what the root names."""
    try:
        entries = live(feed)
        if snapshot_root(NAME, view.version, entries, view.blocks) != view.root:
            return None
    except (Damaged, IndexError):  # ids of another length, a place that no unit has
        return None
    return {(one.block, one.slot): (one.template_id, one.subject_id) for one in entries}


def live(pages: Sequence[FeedPage]) -> list[LiveEntry]:
    """What the snapshot covers of a feed."""
    units = {unit.token: unit for page in pages for unit in page.units}
    hashes = {unit.token: unit.sha256 for unit in units.values()}
    hashes |= {unit.token: unit.sha256 for page in pages for unit in page.amended}
    templates = [one for page in pages for one in page.templates if not one.removed_version]
    return [
        LiveEntry(
            units[one.unit_token].placement.block,
            units[one.unit_token].placement.slots()[one.place],
            one.template_id,
            one.subject_id,
            hashes[one.unit_token],
        )
        for one in templates
    ]


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << random.Random(place).randrange(8)
    path.write_bytes(data)


def places(path: Path, count: int) -> list[int]:
    return random.Random(SEED).sample(range(path.stat().st_size), count)


def one(data: Path, pattern: str) -> Path:
    return sorted(data.glob(pattern))[0]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return filled(tmp_path / "data")


@pytest.fixture(scope="module")
def sound() -> Answer:
    with tempfile.TemporaryDirectory() as folder:
        found = answers(filled(Path(folder) / "data"))
    assert found is not None
    return found


def test_a_sound_folder_has_nothing_to_report(data: Path) -> None:
    report = Checker(data, lambda: None, deep=True, threads=1).run()
    assert report.findings == []
    assert report.accounted
    with opened_folder(data) as folder:
        view, units = folder.gallery().view(), folder.store.units.live(folder.gallery().gallery)
    (gallery,) = report.galleries
    assert (gallery.version, gallery.root, gallery.templates) == (
        view.version,
        view.root,
        view.templates,
    )
    assert (report.units, report.templates, report.blocks) == (len(units), view.templates, 2)
    # lock, catalogue and its identity, a bundle, four units, two blocks
    assert report.files == 4 + len(units) + 2


def test_a_flipped_byte_of_a_unit_is_named_and_a_copy_repairs_it(
    data: Path, tmp_path: Path, sound: Answer
) -> None:
    intact = shutil.copytree(data / "units", tmp_path / "replica" / "some" / "where")
    for path in sorted((data / "units").rglob("*.unit")):
        flip(path, places(path, 1)[0])
    report = checked(data)
    assert len(report.problems) == 4
    assert all("was changed" in found.text and "--from" in found.hint for found in report.problems)
    assert answers(data) == sound  # the blocks hold them
    report = checked(data, repair=True, copies=(intact,))
    assert report.problems == [] and len(report.findings) == 4
    assert checked(data).findings == []
    assert answers(data) == sound


def test_a_wrong_copy_is_not_taken(data: Path, tmp_path: Path) -> None:
    path = one(data, "units/*/*/*.unit")
    intact = tmp_path / "copies"
    intact.mkdir()
    shutil.copy(path, intact)
    flip(intact / path.name, 1000)
    path.unlink()
    report = checked(data, repair=True, copies=(intact,))
    assert len(report.problems) == 1 and "is missing" in report.problems[0].text
    assert not path.exists()
    with pytest.raises(InvalidInput, match="not a folder"):
        checked(data, copies=(tmp_path / "none",))


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "swapped"])
def test_a_lost_unit_of_columns_is_taken_back_out_of_its_block(
    data: Path, sound: Answer, damage: str
) -> None:
    with opened_folder(data) as folder:
        live = folder.store.units.live(folder.gallery().gallery)
        files = folder.gallery().files
        lost = next(u for u in live if u.shape is Shape.COLUMNS and u.placement.first_slot)
        path = files.path(lost.name)
        other = files.path(next(u for u in live if u is not lost).name)
    match damage:
        case "flipped":
            flip(path, places(path, 1)[0])
        case "cut":
            path.write_bytes(path.read_bytes()[:-1000])
        case "gone":
            path.unlink()
        case "swapped":
            path.write_bytes(other.read_bytes())
    assert len(checked(data).problems) == 1
    assert checked(data, repair=True).problems == []
    assert checked(data).findings == []
    assert answers(data) == sound


def test_a_lost_row_cannot_be_had_back_but_searches_go_on(data: Path, sound: Answer) -> None:
    with opened_folder(data) as folder:
        live = folder.store.units.live(folder.gallery().gallery)
        row = next(unit for unit in live if unit.shape is Shape.ROW)
        folder.gallery().files.remove(row.name)
    report = checked(data, repair=True)
    assert [found.text.split(" (")[0] for found in report.problems] == [
        f"the file of unit {row.id}"
    ]
    assert answers(data) == sound


@pytest.mark.parametrize("damage", ["header", "tiles", "cut", "gone", "swapped", "longer"])
def test_a_damaged_block_is_made_again_from_its_units(
    data: Path, sound: Answer, damage: str
) -> None:
    first, second = sorted(data.glob("blocks/*/*/*.tiles"))
    match damage:
        case "header":
            flip(first, random.Random(SEED).randrange(60))
        case "tiles":
            flip(first, 4096 + random.Random(SEED).randrange(first.stat().st_size - 4096))
        case "cut":
            first.write_bytes(first.read_bytes()[:-4])
        case "longer":
            first.write_bytes(first.read_bytes() + bytes(4))
        case "gone":
            first.unlink()
        case "swapped":
            kept = first.read_bytes()
            first.write_bytes(second.read_bytes())
            second.write_bytes(kept)
    left = shutil.copytree(data, data.with_name("left"))
    assert answers(left) == sound  # a start makes it again, too
    report = checked(data)
    assert len(report.findings) == (2 if damage == "swapped" else 1)
    assert not report.accounted
    assert report.galleries[0].root == sound.told[1]
    report = checked(data, repair=True)
    assert report.accounted
    assert Checker(data, lambda: None, deep=True, threads=1).run().findings == []


def test_a_block_that_holds_another_sum_is_found_by_adding_up(data: Path) -> None:
    """Its checksums are right: only its units say otherwise."""
    with opened_folder(data) as folder:
        block = folder.gallery()._blocks.get(1)
        with block._changing(1) as tiles:
            tiles[0, 0, 0, 0, 0] ^= 1
        block.checkpoint()
    report = Checker(data, lambda: None, deep=True, threads=1).run()
    assert "not the sum" in report.problems[0].text
    assert any("another snapshot root" in found.text for found in checked(data).problems)
    Checker(data, lambda: None, deep=True, threads=1, repair=True).run()
    assert Checker(data, lambda: None, deep=True, threads=1).run().findings == []


def test_a_damaged_block_with_a_lost_unit_is_named_and_never_searched(data: Path) -> None:
    flip(one(data, "blocks/*/*/0.tiles"), 5000)
    for path in data.glob("units/*/*/*.unit"):
        flip(path, 1000)
    report = checked(data, repair=True)
    assert report.problems and report.galleries[0].root == ""
    assert answers(data) is None


def test_a_flipped_byte_of_a_bundle_is_named(data: Path) -> None:
    bundle = one(data, "bundles/*.usb")
    for place in places(bundle, 1):
        flip(bundle, place)
        problems = [found.place for found in checked(data).problems]
        assert f"bundles/{bundle.name}" in problems
        assert answers(data) is None
        flip(bundle, place)
    assert checked(data).findings == []


def test_no_flipped_byte_of_the_catalogue_makes_a_wrong_score(
    data: Path, sound: Answer, tmp_path: Path
) -> None:
    """It is found, refused, or where no search depends on it; and the check does not fall over."""
    catalogue, found = data / CATALOGUE, 0
    for number, place in enumerate(places(catalogue, 8)):
        copy = shutil.copytree(data, tmp_path / str(number))
        flip(copy / CATALOGUE, place)
        try:
            named = bool(checked(copy).problems)
        except UndersealError:
            named = True
        found += named
        answer = answers(copy)
        if answer is not None:
            assert answer.scores.items() <= sound.scores.items(), place
            assert answer.names in (None, sound.names), place
            assert answer == sound or named, place  # what else differs, the check names
        shutil.rmtree(copy)
    assert found


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("UPDATE units SET first_slot = first_slot + 1 WHERE id = 1", "not in its slots"),
        ("UPDATE units SET receipt_signature = zeroblob(64) WHERE id = 1", "not signed"),
        ("UPDATE units SET sha256 = zeroblob(32) WHERE id = 1", "was changed"),
        ("UPDATE units SET enrolled_by = 'other' WHERE id = 1", "another client"),
        ("UPDATE templates SET subject_id = zeroblob(16) WHERE id = 1", "another templates"),
        ("UPDATE templates SET label_sha256 = zeroblob(32) WHERE id = 1", "label was changed"),
        ("UPDATE templates SET slot = 4001 WHERE id = 1", "not in its slots"),
        ("UPDATE templates SET removed_version = 99 WHERE id = 1", "has not reached"),
        ("DELETE FROM templates WHERE id = 1", "not in its slots"),
        ("UPDATE snapshots SET root = '00' WHERE version > 3", "another snapshot root"),
        ("UPDATE galleries SET version = version + 1", "no block"),
        (f"UPDATE galleries SET key_epoch = '{'ab' * 32}'", "no bundle"),
    ],
)
def test_a_catalogue_that_was_changed_by_hand_is_found(data: Path, change: str, text: str) -> None:
    with sqlite3.connect(data / CATALOGUE) as connection:
        connection.execute(change)
    if change.startswith("UPDATE galleries SET version"):
        # A version nobody named: nothing contradicts it, and no score depends on it.
        assert checked(data).problems == []
        return
    assert any(text in found.text for found in checked(data).problems)


@pytest.mark.parametrize(
    "change", ["galleries SET key_epoch = 'ab'", "units SET shape = 'raw'", "units SET step = 0"]
)
def test_a_row_that_means_nothing_ends_the_check_with_a_clear_error(
    data: Path, change: str
) -> None:
    with sqlite3.connect(data / CATALOGUE) as connection:
        connection.execute(f"UPDATE {change}")
    with pytest.raises(Damaged, match="catalogue is damaged"):
        checked(data)
    assert answers(data) is None


Leave = Callable[[Path], Path]


def _unit_folder(data: Path) -> Path:
    return one(data, "units/*/*")


def _copied(data: Path, name: str) -> Path:
    path = _unit_folder(data) / name
    shutil.copy(one(data, "units/*/*/*.unit"), path)
    return path


LEFT: dict[str, Leave] = {
    "upload": lambda data: _copied(data, "0011223344556677.part"),
    "unknown unit": lambda data: _copied(data, "ab" * 16 + ".unit"),
    "removed unit": lambda data: _copied(data, f"{3:032x}.unit"),
    "unit before its redaction": lambda data: _copied(data, f"{2:032x}.unit"),
    "damaged block": lambda data: Path(
        shutil.copy(one(data, "blocks/*/*/0.tiles"), one(data, "blocks/*/*") / "0.damaged")
    ),
    "deleted gallery": lambda data: Path(shutil.copytree(data / "units" / "1", data / "units/7")),
    "left epoch": lambda data: Path(
        shutil.copytree(_unit_folder(data), data / "units/1/0123456789abcdef")
    ),
    "left epoch's blocks": lambda data: Path(
        shutil.copytree(one(data, "blocks/*/*"), data / "blocks/1/0123456789abcdef")
    ),
}


def test_what_nobody_needs_is_found_and_deleted(data: Path, sound: Answer) -> None:
    paths = [leave(data) for leave in LEFT.values()]
    report = checked(data)
    assert {found.place for found in report.leftovers} == {str(p.relative_to(data)) for p in paths}
    assert report.problems == [] and not report.accounted
    assert all(path.exists() for path in paths)
    assert checked(data, repair=True).accounted
    assert not any(path.exists() for path in paths)
    assert checked(data).findings == []
    assert answers(data) == sound


def test_strange_files_are_named_and_left_alone(data: Path) -> None:
    names = {"notes.txt", "units/notes.txt", "bundles/old.bak", "blocks/1/notes", "switching/x"}
    for name in names:
        (data / name).write_text("mine")
    report = checked(data, repair=True)
    assert {found.place for found in report.leftovers} == names
    assert all((data / name).exists() for name in names)


def test_labels_of_removed_templates_are_found_and_forgotten(data: Path) -> None:
    label = b"a label that must not be there" * 40
    with sqlite3.connect(data / CATALOGUE) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        changed = "UPDATE templates SET sealed_label = ? WHERE removed_version > 0"
        connection.execute(changed, (label,))
    assert "sealed label" in checked(data).leftovers[0].text
    assert checked(data, repair=True).accounted
    assert checked(data).findings == []
    assert all(label not in path.read_bytes() for path in data.glob(CATALOGUE + "*"))


def test_what_was_deleted_without_care_is_found_in_free_pages(data: Path) -> None:
    secret = b"what somebody deleted by hand"
    connection = sqlite3.connect(data / CATALOGUE, isolation_level=None)
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute("CREATE TABLE t (x)")
    connection.executemany("INSERT INTO t VALUES (?)", [(secret * 300,)] * 20)
    connection.execute("DROP TABLE t")
    connection.close()
    assert secret in (data / CATALOGUE).read_bytes()
    report = checked(data)
    assert [found.place for found in report.leftovers] == [CATALOGUE]
    assert checked(data, repair=True).accounted
    assert secret not in (data / CATALOGUE).read_bytes()
    assert checked(data).findings == []


def test_what_a_crash_left_behind_is_told_from_damage(data: Path) -> None:
    """Units stored, shown and removed since the last checkpoint: nothing of it is lost."""
    with opened_folder(data) as folder:
        gallery = folder.gallery()
        enrol(gallery, Shape.ROW, 2, 20)
        gone = enrol(gallery, Shape.ROW, 1, 21)
        gallery.checkpoint()
        remove(folder, gallery, gone, 1)
        waiting = enrol(gallery, Shape.ROW, 1, 22, show=False)
        view, tiles = gallery.view(), np.array(gallery.tiles(0))
    report = checked(data)
    assert report.problems == []
    assert {found.text for found in report.leftovers} == {
        "block file 0.tiles is behind the catalogue",
        "it holds ciphertexts that were removed",
    }
    assert report.galleries[0].root == view.root
    assert checked(data, repair=True).accounted
    assert checked(data).findings == []
    with opened_folder(data) as folder:
        gallery = folder.gallery()
        assert [unit.token for unit in gallery.pending()] == [waiting.token]
        assert np.array_equal(gallery.tiles(0), tiles)
        assert gallery.view() == view


def test_a_digest_that_is_wrong_is_computed_again(data: Path, sound: Answer) -> None:
    with sqlite3.connect(data / CATALOGUE) as connection:
        connection.execute("UPDATE blocks SET entries_sha256 = zeroblob(32) WHERE block = 0")
    assert "digest of block 0" in checked(data).problems[0].text
    assert answers(data) is None  # the version was named with another root
    assert checked(data, repair=True).problems == []
    assert checked(data).findings == []
    assert answers(data) == sound


def test_a_check_without_repair_changes_no_file(data: Path) -> None:
    for leave in LEFT.values():
        leave(data)
    flip(one(data, "blocks/*/*/0.tiles"), 5000)
    flip(one(data, "units/*/*/*.unit"), 5000)
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert not checked(data).accounted
    after = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert after == before
