"""The snapshot root commits to every field of every live entry."""

from __future__ import annotations

from dataclasses import replace

import pytest

from underseal_core.errors import Damaged
from underseal_core.snapshot import LiveEntry, snapshot_root

ENTRY = LiveEntry(
    block=1,
    slot=7,
    template_id=b"t" * 16,
    subject_id=b"s" * 16,
    unit_sha256=b"u" * 32,
)
TILES = "7" * 64
OTHER = replace(ENTRY, block=0, slot=9, template_id=b"o" * 16)


def root_of(
    gallery: str, version: int, entries: list[LiveEntry], tiles: dict[int, str] | None = None
) -> str:
    """The root, with the same tiles in every block unless others are given."""
    same = dict.fromkeys((entry.block for entry in entries), TILES)
    return snapshot_root(gallery, version, entries, same if tiles is None else tiles)


def test_order_does_not_matter() -> None:
    assert root_of("g", 3, [ENTRY, OTHER]) == root_of("g", 3, [OTHER, ENTRY])


@pytest.mark.parametrize(
    "changed",
    [
        replace(ENTRY, block=2),
        replace(ENTRY, slot=8),
        replace(ENTRY, template_id=b"x" * 16),
        replace(ENTRY, subject_id=b"x" * 16),
        replace(ENTRY, unit_sha256=b"x" * 32),
    ],
)
def test_every_field_counts(changed: LiveEntry) -> None:
    assert root_of("g", 3, [changed, OTHER]) != root_of("g", 3, [ENTRY, OTHER])


def test_name_version_and_membership_count() -> None:
    root = root_of("g", 3, [ENTRY])
    assert root != root_of("h", 3, [ENTRY])
    assert root != root_of("g", 4, [ENTRY])
    assert root != root_of("g", 3, [])
    assert root != root_of("g", 3, [ENTRY, OTHER])


def test_what_a_block_holds_counts() -> None:
    root = root_of("g", 3, [ENTRY, OTHER])
    assert root != root_of("g", 3, [ENTRY, OTHER], {0: TILES, 1: "8" * 64})
    with pytest.raises(Damaged, match="what block 1 holds"):
        root_of("g", 3, [ENTRY, OTHER], {0: TILES})
    with pytest.raises(Damaged, match="without live templates"):
        root_of("g", 3, [ENTRY], {1: TILES, 2: TILES})


@pytest.mark.parametrize("change", [-1, 1])
def test_bytes_cannot_move_between_fields(change: int) -> None:
    with pytest.raises(Damaged, match="wrong length"):
        replace(ENTRY, template_id=b"x" * (16 + change), subject_id=b"x" * (16 - change))
    with pytest.raises(Damaged, match="wrong length"):
        replace(ENTRY, subject_id=b"x" * (16 + change), unit_sha256=b"x" * (32 - change))
