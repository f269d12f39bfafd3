"""Checks of proofs, and roots recomputed from entries. Imports nothing of the prover.

Inclusion and consistency follow the iterative algorithms of RFC 9162 (sections 2.1.3.2 and
2.1.4.2), the prover the recursive definitions of RFC 6962: a mistake in one shows in the other.
Roots are computed layer by layer, where the prover keeps a frontier.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from underseal_core.errors import Damaged


def hash_entry(entry: bytes) -> bytes:
    """Return the leaf hash of an entry (RFC 9162, section 2.1.1), 32 bytes."""
    digest = hashlib.sha256(b"\x00")
    digest.update(entry)
    return digest.digest()


def _parent(left: bytes, right: bytes) -> bytes:
    digest = hashlib.sha256(b"\x01")
    digest.update(left)
    digest.update(right)
    return digest.digest()


def layers(leaf_hashes: Sequence[bytes]) -> list[list[bytes]]:
    """Return all layers of the tree, leaves first, the root alone in the last one.

    An odd last node moves up as it is, which gives the tree of RFC 9162, section 2.1.1. Of layer
    ``j`` the first ``n >> j`` nodes are roots of perfect subtrees.
    """
    result = [list(leaf_hashes)]
    while len(result[-1]) > 1:
        below = result[-1]
        above = [_parent(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        if len(below) % 2:
            above.append(below[-1])
        result.append(above)
    return result


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the root over all leaf hashes; ``SHA-256("")`` when there are none."""
    if not leaf_hashes:
        return hashlib.sha256().digest()
    return layers(leaf_hashes)[-1][0]


def check_inclusion(
    leaf_hash: bytes, index: int, size: int, path: Sequence[bytes], root: bytes
) -> None:
    """Check that the leaf is entry ``index`` of the tree with this size and root.

    Raises
    ------
    Damaged
        It is not, or the path has another length than the tree demands.
    """
    if not 0 <= index < size or len(leaf_hash) != 32:
        raise Damaged("the proof names an entry outside the tree")
    place, last, current = index, size - 1, leaf_hash
    for sibling in path:
        if last == 0:
            raise Damaged("the inclusion proof is too long")
        if place & 1 or place == last:
            current = _parent(sibling, current)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            current = _parent(current, sibling)
        place, last = place >> 1, last >> 1
    if last != 0 or not hmac.compare_digest(current, root):
        raise Damaged("the inclusion proof does not lead to the checkpoint's root")


def check_consistency(
    old: int, new: int, path: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Check that the tree of size ``new`` extends the tree of size ``old`` (not 0).

    Raises
    ------
    Damaged
        It does not: entries were removed or changed, or the proof is wrong.
    """
    if old <= 0:
        raise Damaged("an empty tree is extended by any other: there is nothing to prove")
    if old > new:
        raise Damaged("the log became smaller", hint="keep both checkpoints: they prove it")
    if old == new:
        _check_same(path, old_root, new_root)
    else:
        hashes = list(path) if old & (old - 1) else [old_root, *path]
        _walk_consistency(old - 1, new - 1, hashes, old_root, new_root)


def _check_same(path: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    if path:
        raise Damaged("the consistency proof must be empty here")
    if not hmac.compare_digest(old_root, new_root):
        raise Damaged(
            "two different roots for one tree size: the log is forked",
            hint="keep both checkpoints: they prove it",
        )


def _walk_consistency(
    place: int, last: int, hashes: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    if not hashes:
        raise Damaged("the consistency proof is empty")
    while place & 1:
        place, last = place >> 1, last >> 1
    old_hash = new_hash = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise Damaged("the consistency proof is too long")
        if place & 1 or place == last:
            old_hash, new_hash = _parent(sibling, old_hash), _parent(sibling, new_hash)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new_hash = _parent(new_hash, sibling)
        place, last = place >> 1, last >> 1
    same = hmac.compare_digest(old_hash, old_root) and hmac.compare_digest(new_hash, new_root)
    if last != 0 or not same:
        raise Damaged(
            "the newer tree does not extend the older one: the log is forked or was rewritten",
            hint="keep both checkpoints: they prove it",
        )
