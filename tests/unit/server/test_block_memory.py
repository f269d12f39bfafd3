"""Galleries larger than the memory for their blocks: checked when used, exact, and bounded."""

from __future__ import annotations

import random
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.server_fixtures import Lab, UnitContent, enrol_now, labelled, signed_for, unit_vectors
from underseal_core.errors import Damaged
from underseal_core.gallery import block_file
from underseal_core.gallery.block import Block
from underseal_core.gallery.files import LocalFiles
from underseal_core.gallery.tiles import tiles_root
from underseal_core.gallery.unit import Shape
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.ring.kernel import aligned
from underseal_core.scheme.ciphertext import Ciphertext, Residues
from underseal_core.scheme.evaluation import Evaluator, tiles_shape
from underseal_core.snapshot import LiveEntry, snapshot_root
from underseal_server.check import Checker
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import GallerySpec, StoredUnit, TemplateFilter
from underseal_server.store.store import Store

LAB = Lab(dimension=2)
FULL = Shape.COLUMNS.capacity(LAB.bundle.profile, LAB.dimension)
SIZE = 4 * int(np.prod(tiles_shape(LAB.bundle.profile, LAB.dimension)))
BLOCKS = 6
BOUND = 3 * SIZE


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    with LAB.evaluator() as evaluator:
        yield evaluator


@pytest.fixture(scope="module")
def sealed() -> dict[Shape, list[Ciphertext]]:
    """One unit of each shape; every block has the same columns, under another name."""
    vectors = unit_vectors(FULL, LAB.dimension)
    return {Shape.COLUMNS: LAB.columns(vectors), Shape.ROW: [LAB.row(vectors[:2])]}


@dataclass
class Place:
    """A data folder of a gallery with more blocks than may be in memory."""

    folder: Path
    evaluator: Evaluator
    sealed: dict[Shape, list[Ciphertext]]
    store: Store = field(init=False)
    gallery: GalleryStore = field(init=False)

    def open(self, limit: int | None = BOUND) -> None:
        self.store = Store(self.folder, memory_limit=limit)
        spec = GallerySpec("missing", LAB.pin, "agency", frozenset({"agency"}), 9)
        row = self.store.galleries.create(spec, self.store.clock())
        self.gallery = self.store.open_gallery(row, self.evaluator)

    def reopen(self, limit: int | None = BOUND) -> None:
        self.store.close()
        self.open(limit)

    def enrol(self, shape: Shape) -> bytes:
        token = secrets.token_bytes(16)
        made = labelled(FULL if shape is Shape.COLUMNS else 2)
        with self.gallery.files.stage(shape) as staged:
            for ciphertext in self.sealed[shape]:
                staged.write(ciphertext.to_bytes())
            staged.sync()
            content = UnitContent(token, shape, made, staged, LAB.pin)
            enrol_now(self.gallery, signed_for("missing", content), staged)
        return token

    def unit(self, token: bytes) -> StoredUnit:
        unit = self.store.units.by_token(self.gallery.gallery, token)
        assert unit is not None
        return unit

    def templates(self, unit: StoredUnit) -> list[bytes]:
        """The unit's live templates."""
        page = self.store.templates.page(self.gallery.gallery, TemplateFilter(), (-1, -1), 10**6)
        slots = set(unit.slots())
        return [
            t.template_id
            for t in page
            if (t.block, t.slot in slots) == (unit.placement.block, True)
        ]

    def block_file(self, number: int) -> Path:
        (path,) = self.folder.glob(f"blocks/*/*/{number}.tiles")
        return path

    def sums(self) -> dict[int, Residues]:
        """Every block, added up from the catalogue's live units."""
        sums: dict[int, Residues] = {}
        for unit in self.store.units.live(self.gallery.gallery):
            place = unit.placement
            empty = np.zeros(tiles_shape(LAB.bundle.profile, LAB.dimension), np.uint32)
            tiles = sums.setdefault(place.block, empty)
            ciphertexts = self.sealed[unit.shape]
            if unit.shape is Shape.ROW:
                columns = self.evaluator.expand(ciphertexts[0])
                self.evaluator.add(tiles, columns, place.first_slot)
                continue
            for index, column in enumerate(ciphertexts):
                self.evaluator.add_column(tiles, index, column.residues, place.first_slot)
        return sums

    def root(self) -> str:
        """The root of the present version from every live template, and from the sums."""
        row = self.store.galleries.get("missing")
        units = {unit.id: unit for unit in self.store.units.live(row)}
        by_slot = {
            (unit.placement.block, slot): unit for unit in units.values() for slot in unit.slots()
        }
        page = self.store.templates.page(row, TemplateFilter(), (-1, -1), 10**6)
        entries = [
            LiveEntry(t.block, t.slot, t.template_id, t.subject_id, by_slot[t.block, t.slot].sha256)
            for t in page
        ]
        held = {entry.block for entry in entries}
        roots = {n: tiles_root(tiles) for n, tiles in self.sums().items() if n in held}
        return snapshot_root("missing", row.version, entries, roots)


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    evaluator: Evaluator,
    sealed: dict[Shape, list[Ciphertext]],
) -> Path:
    """A data folder that every test gets a copy of."""
    place = Place(tmp_path_factory.mktemp("made") / "data", evaluator, sealed)
    place.open()
    for _ in range(BLOCKS):
        place.enrol(Shape.COLUMNS)
    place.gallery.checkpoint()
    place.store.close()
    LAB.bundle.save(place.folder / "bundles" / f"{LAB.bundle.epoch}.usb")
    return place.folder


@pytest.fixture
def place(
    tmp_path: Path, made: Path, evaluator: Evaluator, sealed: dict[Shape, list[Ciphertext]]
) -> Iterator[Place]:
    shutil.copytree(made, tmp_path / "data")
    place = Place(tmp_path / "data", evaluator, sealed)
    place.open()
    yield place
    place.store.close()


def test_blocks_beyond_the_bound_leave_and_come_back_the_same(place: Place) -> None:
    sums = place.sums()
    place.reopen()
    held = []
    for number in [*range(BLOCKS), *reversed(range(BLOCKS)), 0, 5, 0, 3]:
        assert np.array_equal(place.gallery.tiles(number), sums[number])
        assert place.gallery.resident(number)
        held.append(place.store.memory.held)
    assert max(held) <= BOUND
    assert sum(place.gallery.resident(number) for number in range(BLOCKS)) == BOUND // SIZE


def test_blocks_in_use_longest_ago_leave_first(place: Place) -> None:
    place.reopen()
    for number in (0, 1, 2, 0, 3):
        place.gallery.tiles(number)
    assert [n for n in range(BLOCKS) if place.gallery.resident(n)] == [0, 2, 3]


def test_a_start_reads_no_tiles_and_the_first_use_checks_them(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def counting(tiles: Residues) -> str:
        checked.append(tiles_root(tiles))
        return checked[-1]

    monkeypatch.setattr(block_file, "tiles_root", counting)
    view = place.gallery.view()
    place.reopen()
    assert place.gallery.view() == view
    assert (checked, place.store.memory.held) == ([], 0)
    place.gallery.tiles(4)
    place.gallery.tiles(4)
    assert checked == [view.blocks[4]]


@pytest.mark.parametrize("where", ["header", "tiles", "gone"])
def test_a_block_damaged_before_or_while_it_is_served_is_made_again(
    place: Place, where: str
) -> None:
    sums, view = place.sums(), place.gallery.view()
    for number, before in ((2, True), (5, False)):
        if not before:
            place.reopen()
        path = place.block_file(number)
        data = bytearray(path.read_bytes())
        data[60 if where == "header" else -9] ^= 4
        path.write_bytes(data)
        if where == "gone":
            path.unlink()
        if before:
            place.reopen()
        assert place.gallery.view() == view
        assert np.array_equal(place.gallery.tiles(number), sums[number])
        assert place.gallery.view() == view
        place.gallery.checkpoint()
    place.store.close()
    assert Checker(place.folder, lambda: None, deep=True, threads=1).run().problems == []
    place.open()


def test_a_block_that_changes_on_the_disk_after_its_check_is_checked_again(place: Place) -> None:
    """What left memory is not trusted when it comes back."""
    sums = place.sums()
    place.reopen()
    place.gallery.tiles(0)
    for number in (1, 2, 3):
        place.gallery.tiles(number)
    assert not place.gallery.resident(0)
    path = place.block_file(0)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    assert np.array_equal(place.gallery.tiles(0), sums[0])


def test_a_damaged_block_of_a_damaged_unit_is_never_used(place: Place) -> None:
    unit = next(u for u in place.store.units.live(place.gallery.gallery) if u.placement.block == 3)
    place.reopen()
    for path in (place.block_file(3), place.gallery.files.path(unit.name)):
        data = bytearray(path.read_bytes())
        data[-1000] ^= 1
        path.write_bytes(data)
    for _ in range(2):
        with pytest.raises(Damaged, match="stored unit is damaged"):
            place.gallery.tiles(3)
    place.gallery.tiles(2)


def test_changed_blocks_stay_until_they_are_saved(place: Place) -> None:
    """A bound that is too small is exceeded before a change is lost."""
    place.reopen(SIZE)
    tokens = [place.enrol(Shape.ROW) for _ in range(3)]
    number = place.unit(tokens[0]).placement.block
    for other in range(BLOCKS):
        place.gallery.tiles(other)
        assert place.gallery.resident(number)
    assert np.array_equal(place.gallery.tiles(number), place.sums()[number])
    place.gallery.checkpoint()
    place.gallery.tiles(0)
    assert not place.gallery.resident(number)
    assert np.array_equal(place.gallery.tiles(number), place.sums()[number])


def test_views_are_those_computed_from_scratch_after_any_changes(place: Place) -> None:
    chance = random.Random(20261122)
    row = place.gallery.gallery
    for step in range(8):
        units = list(place.store.units.live(row))
        unit = chance.choice(units)
        ids = place.templates(unit)
        match chance.randrange(3):
            case 0:
                place.enrol(chance.choice([Shape.ROW, Shape.ROW, Shape.COLUMNS]))
            case 1:
                assert place.gallery.remove(unit, chance.sample(ids, 1), None) == 1
            case _:
                assert place.gallery.remove(unit, ids, None) == len(ids)
        if step % 4 == 3:
            place.reopen()
            row = place.gallery.gallery
        assert place.gallery.view().root == place.root()
        if step % 3 == 0:
            place.gallery.checkpoint()
        assert place.store.digests.wrong(row) == []


def test_a_view_looks_only_at_blocks_that_changed(place: Place) -> None:
    row = place.gallery.gallery
    place.gallery.checkpoint()
    before = place.store.digests.read(row)
    assert all(block.written for block in before.blocks.values())
    unit = next(u for u in place.store.units.live(row) if u.placement.block == 4)
    place.gallery.remove(unit, place.templates(unit)[:1], None)
    after = place.store.digests.read(row, before)
    assert [n for n in before.blocks if after.blocks[n] is not before.blocks[n]] == [4]
    assert after.blocks[4].entries.templates == FULL - 1
    assert not after.blocks[4].written


def test_check_finds_a_digest_that_is_not_that_of_the_templates(place: Place) -> None:
    place.gallery.checkpoint()
    place.store.close()
    store = Store(place.folder)
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE blocks SET templates = templates + 1 WHERE block = 5")
    store.close()
    found = Checker(place.folder, lambda: None, deep=False, threads=1).run().problems
    texts = [problem.text for problem in found]
    assert texts == ["the digest of block 5 is not that of its templates"]
    place.open()


def test_a_sum_of_new_units_begins_with_nothing(tmp_path: Path) -> None:
    """Also where its memory held something else before: large arrays are used again."""
    lab = Lab(dimension=32)
    profile = lab.bundle.profile
    with lab.evaluator() as evaluator:
        files = UnitFiles(LocalFiles(tmp_path), profile, 32)
        used = [aligned(tiles_shape(profile, 32)) for _ in range(8)]
        places = set()
        for array in used:
            array.fill(7)
            places.add(array.ctypes.data)
        del array, used
        total = Block(None, 0, evaluator, files)
        assert total.tiles.ctypes.data in places
        assert not total.tiles.any()
