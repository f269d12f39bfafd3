"""The root over a block's tiles: what it covers, and when it is computed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.server_fixtures import Lab, UnitContent, labelled, signed_for, unit_vectors
from underseal_core.errors import Damaged
from underseal_core.gallery import block as blocks
from underseal_core.gallery import block_file
from underseal_core.gallery.block import Block
from underseal_core.gallery.files import LocalFiles, local_file
from underseal_core.gallery.tiles import tiles_root
from underseal_core.gallery.unit import Placement, Shape, Unit
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.scheme.evaluation import tiles_shape
from underseal_core.tlog.verifier import check_inclusion, hash_entry

LAB = Lab()
SHAPE = tiles_shape(LAB.bundle.profile, LAB.dimension)


def random_tiles(seed: int = 3) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
    values = np.random.default_rng(seed).integers(0, 1 << 20, SHAPE, dtype=np.uint32)
    return np.ascontiguousarray(values)


def leaf(tiles: np.ndarray[tuple[int, ...], np.dtype[np.uint32]], place: int) -> bytes:
    """The tile at one place of every prime."""
    return b"".join(prime[place].tobytes() for prime in tiles)


def test_one_tile_can_be_checked_against_the_root() -> None:
    tiles = random_tiles()
    count = SHAPE[1]
    layer = [hash_entry(leaf(tiles, place)) for place in range(count)]
    path, place = [], 5
    while len(layer) > 1:
        path.append(layer[place ^ 1])
        layer = [
            hashlib.sha256(b"\1" + layer[i] + layer[i + 1]).digest()
            for i in range(0, len(layer), 2)
        ]
        place //= 2
    root = bytes.fromhex(tiles_root(tiles))
    assert layer == [root]
    check_inclusion(hash_entry(leaf(tiles, 5)), 5, count, path, root)
    with pytest.raises(Damaged):
        check_inclusion(hash_entry(leaf(tiles, 6)), 5, count, path, root)


def test_every_residue_counts() -> None:
    tiles = random_tiles()
    before = tiles_root(tiles)
    for place in ((0,) * 5, tuple(size - 1 for size in SHAPE)):
        tiles[place] ^= 1
        assert tiles_root(tiles) != before
        tiles[place] ^= 1
    assert tiles_root(tiles) == before


def test_root_is_computed_once_after_a_change_and_kept_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []

    def counting(tiles: np.ndarray[tuple[int, ...], np.dtype[np.uint32]]) -> str:
        hashed.append(1)
        return tiles_root(tiles)

    monkeypatch.setattr(blocks, "tiles_root", counting)
    monkeypatch.setattr(block_file, "tiles_root", counting)
    profile = LAB.bundle.profile
    files = UnitFiles(LocalFiles(tmp_path / "units"), profile, LAB.dimension)
    row = LAB.row(unit_vectors(1))
    with files.stage(Shape.ROW) as staged, LAB.evaluator() as evaluator:
        staged.write(row.to_bytes())
        content = UnitContent(b"t" * 16, Shape.ROW, labelled(1), staged, LAB.pin)
        signed = signed_for("missing", content)
        staged.sync()
        files.keep(staged, signed.token)
        unit = Unit(
            token=signed.token,
            shape=Shape.ROW,
            placement=Placement(0, 3, LAB.dimension, 1),
            sha256=signed.sha256,
        )
        block = Block(local_file(tmp_path / "0.tiles"), 0, evaluator, files)
        block.fold_in(unit)
        assert hashed == [], "enrolment does not wait for it"
        root = block.tiles_root()
        assert (block.tiles_root(), len(hashed)) == (root, 1)
        block.checkpoint()
        assert len(hashed) == 1
        again = Block(local_file(tmp_path / "0.tiles"), 0, evaluator, files)
        assert (again.tiles_root(), again.folded) == (root, {unit.token})
        assert len(hashed) == 1, "opening it reads no tiles"
        assert np.array_equal(again.tiles, block.tiles)
        assert len(hashed) == 2, "reading them checks them"
        again.fold_out(unit)
        assert again.tiles_root() == tiles_root(np.zeros(SHAPE, np.uint32)) != root
