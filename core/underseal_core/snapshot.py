"""The root that names one state of a gallery: which template is where, and what the blocks hold.

    entry          = slot || template id || subject id || unit SHA-256
    entries digest = SHA-256("underseal entries v2" || entries in slot order)
    block digest   = SHA-256("underseal block v3" || block || tiles root || entries digest)
    root           = SHA-256("underseal snapshot v3" || gallery name || version || block digests)

Integers are 8 bytes, big-endian; names are preceded by their length. The tiles root is that of
``underseal_core.gallery.tiles``. Server and auditors compute the root from their own copies of the
catalogue; equal roots mean equal catalogues, and the same ciphertexts in the blocks. Both keep the
entries digest of every block until the block changes, so that a new version costs what changed.

Labels are not in it: each is bound by its enroller's receipt, and may change while searches of
earlier versions are under way (docs/adr/0015-labels-change-by-receipt.md).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from underseal_core.errors import Damaged

_LENGTHS: Final = (16, 16, 32)
_ENTRY: Final = struct.Struct(">Q16s16s32s")
_WRONG_LENGTH: Final = "a catalogue entry holds an id or a hash of the wrong length"


@dataclass(frozen=True, slots=True)
class LiveEntry:
    """One live template.

    ``template_id`` and ``subject_id`` have 16 bytes; the hash of the unit's ciphertexts 32.

    Raises
    ------
    Damaged
        Other lengths: bytes could move from one field to the next and leave the root as it is.
    """

    block: int
    slot: int
    template_id: bytes
    subject_id: bytes
    unit_sha256: bytes

    def __post_init__(self) -> None:
        """Check the lengths."""
        if tuple(map(len, self.row()[1:])) != _LENGTHS:
            raise Damaged(_WRONG_LENGTH)

    def row(self) -> EntryRow:
        """Return what the entries digest covers."""
        return (self.slot, self.template_id, self.subject_id, self.unit_sha256)


EntryRow = tuple[int, bytes, bytes, bytes]
"""The fields of a :class:`LiveEntry` without the block, in this order."""


@dataclass(frozen=True, slots=True)
class BlockEntries:
    """The live templates of one block: how many, and their entries digest."""

    templates: int
    sha256: bytes


def block_entries(rows: Iterable[EntryRow]) -> BlockEntries:
    """Digest the live templates of one block, given in slot order.

    Raises
    ------
    Damaged
        Two of them are in one slot or out of order, or a field has the wrong length.
    """
    digest, last, count = hashlib.sha256(b"underseal entries v2"), -1, 0
    for row in rows:
        slot, *fields = row
        if slot <= last:
            raise Damaged("a catalogue names two templates in one slot")
        if tuple(map(len, fields)) != _LENGTHS:
            raise Damaged(_WRONG_LENGTH)
        digest.update(_ENTRY.pack(*row))
        last, count = slot, count + 1
    return BlockEntries(count, digest.digest())


def root_of_blocks(
    gallery: str, version: int, entries: Mapping[int, bytes], tiles_roots: Mapping[int, str]
) -> str:
    """Return the hex root.

    Parameters
    ----------
    entries
        Entries digest of each block that holds a live template.
    tiles_roots
        Hex tiles root of each of these, and of no other.

    Raises
    ------
    Damaged
        The blocks are not those of the entries.
    """
    name = gallery.encode()
    root = hashlib.sha256(b"underseal snapshot v3" + _integer(len(name)) + name)
    root.update(_integer(version))
    for block in sorted(entries):
        if block not in tiles_roots:
            raise Damaged(f"the snapshot does not say what block {block} holds")
        head = b"underseal block v3" + _integer(block) + bytes.fromhex(tiles_roots[block])
        root.update(hashlib.sha256(head + entries[block]).digest())
    if len(entries) != len(tiles_roots):
        raise Damaged("the snapshot speaks of a block without live templates")
    return root.hexdigest()


def snapshot_root(
    gallery: str, version: int, entries: Iterable[LiveEntry], tiles_roots: Mapping[int, str]
) -> str:
    """Return the hex root from all live templates, in any order; see :func:`root_of_blocks`."""
    ordered = sorted(entries, key=lambda entry: (entry.block, entry.slot))
    digests = {
        block: block_entries(entry.row() for entry in group).sha256
        for block, group in groupby(ordered, key=lambda entry: entry.block)
    }
    return root_of_blocks(gallery, version, digests, tiles_roots)


def _integer(value: int) -> bytes:
    return value.to_bytes(8, "big")
