"""The prover's side of the Merkle tree of RFC 6962, section 2.1, over SHA-256.

A *node* (level, index) is the root of the perfect subtree over the leaves
``[index << level, (index + 1) << level)``. Proofs are built from nodes alone, so whatever can
read nodes (tiles on disk, a list in memory) can prove. The verifier is :mod:`.verifier`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from underseal_core.errors import InvalidInput

TILE_HEIGHT = 8
EMPTY_ROOT = hashlib.sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]
"""Gives the hash of node (level, index)."""


def leaf_hash(entry: bytes) -> bytes:
    """Return ``SHA-256(0x00 || entry)``, 32 bytes."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return ``SHA-256(0x01 || left || right)``, 32 bytes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over ``hashes``; their number must be a power of two."""
    layer = list(hashes)
    while len(layer) > 1:
        layer = [node_hash(layer[i], layer[i + 1]) for i in range(0, len(layer), 2)]
    return layer[0]


class Frontier:
    """The roots of the perfect subtrees that a growing tree consists of, left to right."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def append(self, leaf: bytes) -> list[bytes]:
        """Add a leaf hash.

        Returns
        -------
        list of bytes
            Element ``k`` is the hash that this leaf completes at tile level ``k``: the leaf
            itself, then the root of 256 leaves when the size reached a multiple of 256, etc.
        """
        completed = [leaf]
        level, rest, current = 0, self.size, leaf
        while rest & 1:
            current = node_hash(self._peaks.pop(), current)
            level, rest = level + 1, rest >> 1
            if level % TILE_HEIGHT == 0:
                completed.append(current)
        self._peaks.append(current)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """Return the tree's root; ``SHA-256("")`` while it is empty."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root


def _split(count: int) -> int:
    """Return the largest power of two smaller than ``count`` (>= 2)."""
    return 1 << ((count - 1).bit_length() - 1)


def range_root(node: NodeReader, start: int, end: int) -> bytes:
    """Return ``MTH(D[start:end])`` for a range that the recursion of RFC 6962 visits."""
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, start >> level)
    middle = start + _split(count)
    return node_hash(range_root(node, start, middle), range_root(node, middle, end))


def inclusion_proof(node: NodeReader, index: int, size: int) -> tuple[bytes, ...]:
    """Return ``PATH(index, D[size])`` of RFC 6962, section 2.1.1: from leaf to root.

    Raises
    ------
    InvalidInput
        The tree has no such leaf.
    """
    if not 0 <= index < size:
        raise InvalidInput("the log has no entry with this index at this size")
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_root(node, middle, end))
            end = middle
        else:
            path.append(range_root(node, start, middle))
            start = middle
    return tuple(reversed(path))


def consistency_proof(node: NodeReader, old: int, size: int) -> tuple[bytes, ...]:
    """Return ``PROOF(old, D[size])`` of RFC 6962, section 2.1.2; empty when ``old`` is 0.

    Raises
    ------
    InvalidInput
        ``old`` is negative or larger than ``size``.
    """
    if not 0 <= old <= size:
        raise InvalidInput("the old size must not exceed the new one")
    if old == 0:
        return ()
    path = []
    start, end = 0, size
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(range_root(node, middle, end))
            end = middle
        else:
            path.append(range_root(node, start, middle))
            start = middle
    if start:
        path.append(range_root(node, start, end))
    return tuple(reversed(path))
