"""How much of the blocks is in memory: a bound, and who leaves when it is reached.

A block's tiles are read into memory of their own, and checked, when they are first used; the
system cannot drop pages of them and read back others. Blocks that were not used for longest leave
first. Those with changes that no checkpoint has stay: how many there may be is bounded apart.
"""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from contextlib import suppress
from math import prod
from typing import Final, Protocol

import numpy as np

from underseal_core.scheme.blocks import tiles_shape
from underseal_core.scheme.ciphertext import Residues
from underseal_core.scheme.profiles import Profile

WORD_BYTES: Final = 4


def tiles_bytes(profile: Profile, dimension: int) -> int:
    """Return the bytes of a block's tiles in memory; an expanded probe takes as many."""
    return WORD_BYTES * prod(tiles_shape(profile, dimension))


class Droppable(Protocol):
    """Something in memory that can be had again."""

    def drop(self) -> bool:
        """Leave memory; return whether it did. Must not wait."""


class BlockMemory:
    """A bound for the tiles of all blocks that are opened with it. Thread-safe.

    Whoever computes with tiles keeps them in memory until it is done, dropped or not: beyond the
    bound there are at most the blocks that are being computed with.

    Parameters
    ----------
    limit
        Bytes; ``None``: no bound.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._held: OrderedDict[Droppable, int] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes of the tiles that are in memory."""
        with self._lock:
            return sum(self._held.values())

    def enter(self, block: Droppable, size: int) -> None:
        """Count a block that is about to take ``size`` bytes, after dropping others if need be."""
        if self.limit is None:
            return
        with self._lock:
            self._make_room(size, self.limit)
            self._held[block] = size

    def touch(self, block: Droppable) -> None:
        """Note that a block was used."""
        with self._lock:
            if block in self._held:
                self._held.move_to_end(block)

    def leave(self, block: Droppable) -> None:
        """Count a block no more."""
        with self._lock:
            self._held.pop(block, None)

    def _make_room(self, size: int, limit: int) -> None:
        excess = sum(self._held.values()) + size - limit
        for block in list(self._held):
            if excess <= 0:
                return
            if block.drop():
                excess -= self._held.pop(block)


def page_memory(shape: tuple[int, ...]) -> Residues:
    """Return an array of zeros on pages of its own: dropped, they go back to the system at once."""
    size = WORD_BYTES * prod(shape)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            # To touch 32 MiB for the first time then takes 3 ms instead of 25.
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype="<u4").reshape(shape)
