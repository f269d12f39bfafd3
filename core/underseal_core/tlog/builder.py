"""Grows a tree entry by entry and gives the files that make it up. Pure."""

from __future__ import annotations

from underseal_core.tlog.layout import (
    TILE_WIDTH,
    TileFile,
    bundle_path,
    encode_bundle,
    tile_path,
)
from underseal_core.tlog.tree import Frontier, leaf_hash


class TileBuilder:
    """Turns a sequence of entries into the files of the log; holds unfinished tiles only."""

    def __init__(self) -> None:
        self._frontier = Frontier()
        self._tiles: list[list[bytes]] = []
        self.entries: list[bytes] = []

    @property
    def size(self) -> int:
        """Number of entries so far."""
        return self._frontier.size

    def root(self) -> bytes:
        """Return the root over all entries so far."""
        return self._frontier.root()

    def append(self, entry: bytes) -> list[TileFile]:
        """Add an entry; return the full tiles and the full bundle that it completes."""
        index = self.size
        self.entries.append(entry)
        files = []
        for level, value in enumerate(self._frontier.append(leaf_hash(entry))):
            if level == len(self._tiles):
                self._tiles.append([])
            tile = self._tiles[level]
            tile.append(value)
            if len(tile) == TILE_WIDTH:
                path = tile_path(level, index >> (8 * (level + 1)))
                files.append(TileFile(path, b"".join(tile)))
                tile.clear()
        if len(self.entries) == TILE_WIDTH:
            files.append(TileFile(bundle_path(index // TILE_WIDTH), encode_bundle(self.entries)))
            self.entries.clear()
        return files

    def partials(self) -> list[TileFile]:
        """Return the partial tiles and the partial bundle of the tree as it is now."""
        files = []
        for level, tile in enumerate(self._tiles):
            if tile:
                path = tile_path(level, self.size >> (8 * (level + 1)), len(tile))
                files.append(TileFile(path, b"".join(tile)))
        if self.entries:
            path = bundle_path(self.size // TILE_WIDTH, len(self.entries))
            files.append(TileFile(path, encode_bundle(self.entries)))
        return files
