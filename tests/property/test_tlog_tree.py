"""Prover (RFC 6962) against verifier (RFC 9162): sizes 1 to 300, all pairs."""

from __future__ import annotations

import hashlib
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underseal_core.errors import Damaged
from underseal_core.tlog.builder import TileBuilder
from underseal_core.tlog.layout import TILE_WIDTH, split_tile
from underseal_core.tlog.tree import (
    Frontier,
    NodeReader,
    consistency_proof,
    fold,
    inclusion_proof,
    leaf_hash,
)
from underseal_core.tlog.verifier import check_consistency, check_inclusion, layers, root_of

LIMIT = 300
LEAVES = [leaf_hash(b"entry %d" % i) for i in range(LIMIT)]
ROOTS = [root_of(LEAVES[:size]) for size in range(LIMIT + 1)]


@cache
def node(level: int, index: int) -> bytes:
    return fold(LEAVES[index << level : (index + 1) << level])


def definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = max(1 << i for i in range(len(leaves).bit_length()) if 1 << i < len(leaves))
    left, right = definition(leaves[:k]), definition(leaves[k:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def test_roots_follow_the_definition() -> None:
    frontier = Frontier()
    for size in range(LIMIT):
        assert frontier.root() == ROOTS[size]
        frontier.append(LEAVES[size])
    for size in (1, 2, 3, 7, 8, 9, 127, 255, 256, 257, 299, 300):
        assert definition(LEAVES[:size]) == ROOTS[size]


def test_every_inclusion_proof_up_to_300() -> None:
    for size in range(1, LIMIT + 1):
        for index in range(size):
            path = inclusion_proof(node, index, size)
            check_inclusion(LEAVES[index], index, size, path, ROOTS[size])


def test_every_consistency_proof_up_to_300() -> None:
    for size in range(1, LIMIT + 1):
        for old in range(1, size + 1):
            path = consistency_proof(node, old, size)
            check_consistency(old, size, path, ROOTS[old], ROOTS[size])


def test_tiles_hold_every_node_up_to_70000() -> None:
    builder = TileBuilder()
    files = [file for i in range(70_000) for file in builder.append(b"%d" % i)]
    files += builder.partials()
    stored = {file.path: file.data for file in files}
    tree = layers([leaf_hash(b"%d" % i) for i in range(70_000)])
    assert builder.root() == tree[-1][0]
    tiles = [path for path in stored if not path.startswith("tile/entries/")]
    assert len(tiles) == 273 + 1 + 1 + 1 + 1
    for level in (0, 1, 2):
        found = [p for p in tiles if p.startswith(f"tile/{level}/")]
        hashes = b"".join(stored[path] for path in sorted(found))
        assert split_tile(hashes, 70_000 >> (8 * level)) == tree[8 * level][: 70_000 >> 8 * level]
    assert {"tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"} <= set(tiles)
    assert len(stored["tile/0/000"]) == 32 * TILE_WIDTH


sizes = st.integers(2, LIMIT)


@settings(max_examples=200, deadline=None)
@given(size=sizes, data=st.data())
def test_inclusion_of_anything_else_is_refused(size: int, data: st.DataObject) -> None:
    index, other = data.draw(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)))
    path = inclusion_proof(node, index, size)
    if other != index:
        with pytest.raises(Damaged):
            check_inclusion(LEAVES[other], index, size, path, ROOTS[size])
        with pytest.raises(Damaged):
            check_inclusion(LEAVES[index], other, size, path, ROOTS[size])
    bit = data.draw(st.integers(0, 256 * len(path) - 1))
    broken = bytearray(b"".join(path))
    broken[bit // 8] ^= 1 << bit % 8
    hashes = [bytes(broken[i : i + 32]) for i in range(0, len(broken), 32)]
    with pytest.raises(Damaged):
        check_inclusion(LEAVES[index], index, size, hashes, ROOTS[size])


@settings(max_examples=200, deadline=None)
@given(size=sizes, data=st.data())
def test_consistency_with_another_history_is_refused(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    changed = data.draw(st.integers(0, old - 1))
    leaves = [*LEAVES[:changed], leaf_hash(b"other"), *LEAVES[changed + 1 : size]]

    def forked(level: int, index: int) -> bytes:
        return fold(leaves[index << level : (index + 1) << level])

    readers: tuple[NodeReader, NodeReader] = (node, forked)
    for reader in readers:
        path = consistency_proof(reader, old, size)
        with pytest.raises(Damaged):
            check_consistency(old, size, path, ROOTS[old], root_of(leaves))
        with pytest.raises(Damaged):
            check_consistency(old, size, path, root_of(leaves[:old]), ROOTS[size])
