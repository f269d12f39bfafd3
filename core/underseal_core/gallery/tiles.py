"""The root that names a block's content: a Merkle tree over its tiles.

Leaf ``g`` is the concatenation over the primes of ``tiles[prime][g]``: 16 positions of the number
theoretic transform, of every column, both components, as uint32 little-endian. Whoever holds one
tile can so check it against the root of a snapshot.
"""

from __future__ import annotations

import hashlib

import numpy as np

from underseal_core.scheme.ciphertext import Residues
from underseal_core.tlog.verifier import root_of


def tiles_root(tiles: Residues) -> str:
    """Return the hex root (RFC 6962, SHA-256) over a block of shape ``tiles_shape(...)``."""
    plain = np.ascontiguousarray(tiles, dtype="<u4")
    leaves = []
    for place in range(plain.shape[1]):
        digest = hashlib.sha256(b"\x00")
        for prime in plain:
            digest.update(prime[place].data.cast("B"))
        leaves.append(digest.digest())
    return root_of(leaves).hex()
