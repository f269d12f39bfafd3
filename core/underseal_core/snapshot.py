"""The root that names one state of a gallery: what its blocks hold, and who enrolled it.

    entry        = slot || template id || subject id || SHA-256(sealed label) || unit SHA-256
                   || SHA-256(enroller's receipt)
    block digest = SHA-256("underseal block v2" || block || tiles root || entries in slot order)
    root         = SHA-256("underseal snapshot v2" || gallery name || version || block digests)

Integers are 8 bytes, big-endian; names are preceded by their length. The tiles root is that of
``underseal_core.gallery.tiles``. Server and auditors compute the root from their own copies of the
catalogue; equal roots mean equal catalogues, and the same ciphertexts in the blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from underseal_core.errors import Damaged


@dataclass(frozen=True, slots=True)
class LiveEntry:
    """One live template.

    ``template_id`` and ``subject_id`` have 16 bytes; the hashes 32: of the sealed label, the
    unit's ciphertexts, the payload of its receipt.

    Raises
    ------
    Damaged
        Other lengths: bytes could move from one field to the next and leave the root as it is.
    """

    block: int
    slot: int
    template_id: bytes
    subject_id: bytes
    label_sha256: bytes
    unit_sha256: bytes
    receipt_sha256: bytes

    def __post_init__(self) -> None:
        """Check the lengths."""
        ids = len(self.template_id), len(self.subject_id)
        hashes = len(self.label_sha256), len(self.unit_sha256), len(self.receipt_sha256)
        if ids != (16, 16) or hashes != (32, 32, 32):
            raise Damaged("a catalogue entry holds an id or a hash of the wrong length")

    def to_bytes(self) -> bytes:
        """Return what the block's digest covers."""
        return (
            _integer(self.slot)
            + self.template_id
            + self.subject_id
            + self.label_sha256
            + self.unit_sha256
            + self.receipt_sha256
        )


def _integer(value: int) -> bytes:
    return value.to_bytes(8, "big")


def snapshot_root(
    gallery: str, version: int, entries: Iterable[LiveEntry], tiles_roots: Mapping[int, str]
) -> str:
    """Return the hex root.

    Parameters
    ----------
    entries
        The live templates, in any order.
    tiles_roots
        Hex root of each block that holds one, and of no other.

    Raises
    ------
    Damaged
        The blocks are not those of the entries.
    """
    name = gallery.encode()
    root = hashlib.sha256(b"underseal snapshot v2" + _integer(len(name)) + name)
    root.update(_integer(version))
    ordered = sorted(entries, key=lambda e: (e.block, e.slot))
    seen = 0
    for block, group in groupby(ordered, key=lambda e: e.block):
        if block not in tiles_roots:
            raise Damaged(f"the snapshot does not say what block {block} holds")
        head = b"underseal block v2" + _integer(block) + bytes.fromhex(tiles_roots[block])
        digest = hashlib.sha256(head)
        for entry in group:
            digest.update(entry.to_bytes())
        root.update(digest.digest())
        seen += 1
    if seen != len(tiles_roots):
        raise Damaged("the snapshot speaks of a block without live templates")
    return root.hexdigest()
