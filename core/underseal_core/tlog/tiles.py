"""Reads a log's directory, for provers, witnesses and auditors. Never writes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from underseal_core.errors import Damaged, NotFound
from underseal_core.tlog.layout import (
    CHECKPOINT,
    TILE_WIDTH,
    bundle_path,
    decode_bundle,
    split_tile,
    tile_path,
    tile_width,
)
from underseal_core.tlog.tree import (
    TILE_HEIGHT,
    NodeReader,
    consistency_proof,
    fold,
    inclusion_proof,
)

MAX_CACHED = 256
"""Full tiles kept in memory: 2 MB of hashes, 65,536 entries' worth at level 0."""


class TileReader:
    """The files of a log as they are on disk: nothing read here is verified yet."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._full = lru_cache(MAX_CACHED)(self._full_tile)

    def checkpoint(self) -> bytes:
        """Return the signed checkpoint.

        Raises
        ------
        NotFound
            The directory holds no log.
        """
        try:
            return (self.directory / CHECKPOINT).read_bytes()
        except OSError as error:
            raise NotFound("there is no log here, or it has no checkpoint") from error

    def tile(self, level: int, index: int, size: int) -> list[bytes]:
        """Return the hashes of a tile of the tree of ``size`` leaves.

        Raises
        ------
        Damaged
            The file is missing or has another length.
        """
        width = tile_width(level, index, size)
        if width == TILE_WIDTH:
            return list(self._full(level, index))
        data, found = self._widest(tile_path(level, index), tile_path(level, index, width), width)
        return split_tile(data, found)[:width]

    def _full_tile(self, level: int, index: int) -> tuple[bytes, ...]:
        """Read a full tile; it never changes, so the last ones that were used are kept."""
        path = tile_path(level, index)
        data, _ = self._widest(path, path, TILE_WIDTH)
        return tuple(split_tile(data, TILE_WIDTH))

    def bundle(self, index: int, size: int) -> list[bytes]:
        """Return the entries of a bundle of the tree of ``size`` leaves.

        Raises
        ------
        Damaged
            The file is missing or does not hold that many entries.
        """
        width = tile_width(0, index, size)
        data, found = self._widest(bundle_path(index), bundle_path(index, width), width)
        return decode_bundle(data, found)[:width]

    def _widest(self, full: str, partial: str, width: int) -> tuple[bytes, int]:
        """Return the file and its width; the full one may have replaced the partial one."""
        for path, found in ((partial, width), (full, TILE_WIDTH)):
            try:
                return (self.directory / path).read_bytes(), found
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Damaged("a file of the log cannot be read") from error
        raise Damaged("a file of the log is missing", hint="restore the log from a mirror")

    def entries(self, size: int, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield index and content of the entries ``start`` to ``size`` - 1, not verified."""
        for bundle in range(start // TILE_WIDTH, -(-size // TILE_WIDTH)):
            first = bundle * TILE_WIDTH
            for index, entry in enumerate(self.bundle(bundle, size), first):
                if index >= start:
                    yield index, entry

    def nodes(self, size: int) -> NodeReader:
        """Return a reader of the nodes of the tree of ``size`` leaves; it keeps tiles it read."""
        cache: dict[tuple[int, int], list[bytes]] = {}

        def node(level: int, index: int) -> bytes:
            tile_level, height = divmod(level, TILE_HEIGHT)
            tile, offset = divmod(index << height, TILE_WIDTH)
            key = (tile_level, tile)
            if key not in cache:
                cache[key] = self.tile(tile_level, tile, size)
            return fold(cache[key][offset : offset + (1 << height)])

        return node

    def prove_inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the inclusion proof of entry ``index`` in the tree of ``size`` leaves."""
        return inclusion_proof(self.nodes(size), index, size)

    def prove_consistency(self, old: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of ``size`` leaves extends that of ``old`` leaves."""
        return consistency_proof(self.nodes(size), old, size)
