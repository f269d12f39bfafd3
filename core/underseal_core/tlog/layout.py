"""Names and contents of the files of a tiled log, c2sp.org/tlog-tiles. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from underseal_core.errors import Damaged, InvalidInput

HASH_BYTES = 32
TILE_WIDTH = 256
CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True)
class TileFile:
    """A file of the log: its path below the log's directory, its content."""

    path: str
    data: bytes


def index_path(index: int) -> str:
    """Return an index as path elements of three digits: 1234067 is ``x001/x234/067``."""
    if index < 0:
        raise InvalidInput("a tile index is not negative")
    elements = [f"{index % 1000:03d}"]
    while index := index // 1000:
        elements.append(f"x{index % 1000:03d}")
    return "/".join(reversed(elements))


def _suffix(width: int) -> str:
    if not 1 <= width <= TILE_WIDTH:
        raise InvalidInput("a tile is 1 to 256 wide")
    return "" if width == TILE_WIDTH else f".p/{width}"


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Return ``tile/<L>/<N>[.p/<W>]``."""
    if not 0 <= level <= 63:
        raise InvalidInput("a tile level is 0 to 63")
    return f"tile/{level}/{index_path(index)}{_suffix(width)}"


def bundle_path(index: int, width: int = TILE_WIDTH) -> str:
    """Return ``tile/entries/<N>[.p/<W>]``."""
    return f"tile/entries/{index_path(index)}{_suffix(width)}"


def tile_width(level: int, index: int, size: int) -> int:
    """Return how many hashes tile (level, index) has in a tree of ``size`` leaves; 0 if none."""
    return max(0, min(TILE_WIDTH, (size >> (8 * level)) - TILE_WIDTH * index))


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Return entries as an entry bundle: each after its length, 16 bits, big-endian."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes, count: int) -> list[bytes]:
    """Split an entry bundle.

    Raises
    ------
    Damaged
        It does not hold exactly ``count`` entries.
    """
    entries: list[bytes] = []
    offset = 0
    while offset + 2 <= len(data) and len(entries) < count:
        end = offset + 2 + int.from_bytes(data[offset : offset + 2], "big")
        entries.append(data[offset + 2 : end])
        offset = end
    if offset != len(data) or len(entries) != count:
        raise Damaged("an entry bundle of the log is damaged")
    return entries


def split_tile(data: bytes, width: int) -> list[bytes]:
    """Split a tile into hashes.

    Raises
    ------
    Damaged
        It does not hold exactly ``width`` hashes.
    """
    if len(data) != width * HASH_BYTES:
        raise Damaged("a tile of the log is damaged")
    return [data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)]
