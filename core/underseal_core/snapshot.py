"""The root that names one state of a gallery: which template is live in which slot.

    block digest = SHA-256("underseal block v1" || block || entries in slot order)
    entry        = slot || template id || subject id || SHA-256(sealed label) || unit SHA-256
    root         = SHA-256("underseal snapshot v1" || gallery name || version || block digests)

Integers are 8 bytes, big-endian; names are preceded by their length. Server and auditors compute
the root from their own copies of the catalogue; equal roots mean equal catalogues.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from underseal_core.errors import Damaged


@dataclass(frozen=True, slots=True)
class LiveEntry:
    """One live template.

    ``template_id`` and ``subject_id`` have 16 bytes, ``label_sha256`` and ``unit_sha256`` 32.

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

    def __post_init__(self) -> None:
        """Check the lengths."""
        ids = len(self.template_id), len(self.subject_id)
        if ids != (16, 16) or (len(self.label_sha256), len(self.unit_sha256)) != (32, 32):
            raise Damaged("a catalogue entry holds an id or a hash of the wrong length")


def _integer(value: int) -> bytes:
    return value.to_bytes(8, "big")


def snapshot_root(gallery: str, version: int, entries: Iterable[LiveEntry]) -> str:
    """Return the hex root over ``entries``, in any order."""
    name = gallery.encode()
    root = hashlib.sha256(b"underseal snapshot v1" + _integer(len(name)) + name)
    root.update(_integer(version))
    block_digest = hashlib.sha256()
    current = -1
    for entry in sorted(entries, key=lambda e: (e.block, e.slot)):
        if entry.block != current:
            if current >= 0:
                root.update(block_digest.digest())
            current = entry.block
            block_digest = hashlib.sha256(b"underseal block v1" + _integer(current))
        block_digest.update(
            _integer(entry.slot)
            + entry.template_id
            + entry.subject_id
            + entry.label_sha256
            + entry.unit_sha256
        )
    if current >= 0:
        root.update(block_digest.digest())
    return root.hexdigest()
