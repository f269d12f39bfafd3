"""Which slots of a gallery's blocks are taken, and where the next unit goes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from underseal_core.errors import Damaged
from underseal_core.gallery.unit import Placement

Mask = npt.NDArray[np.bool_]


class SlotMap:
    """Taken slots, by block.

    A unit takes slots ``first + r * step``: neighbours for columns, one per ``dimension`` slots
    for a row. Blocks are filled from the first on, so that freed slots are used again before a
    new block begins.

    Parameters
    ----------
    degree
        Slots of a block.
    usable
        How many of them, from the first on, may be taken.
    """

    def __init__(self, degree: int, usable: int) -> None:
        self._empty: Final = np.arange(degree) >= usable
        self._taken: dict[int, Mask] = {}

    def find(self, step: int, count: int) -> Placement:
        """Return the first place for ``count`` templates; takes nothing.

        Needs ``1 <= count <= usable / step``.
        """
        for block in sorted(self._taken):
            first = _first_free(self._taken[block], step, count)
            if first is not None:
                return Placement(block, first, step, count)
        unused = next(b for b in range(len(self._taken) + 1) if b not in self._taken)
        return Placement(unused, 0, step, count)

    def take(self, placement: Placement, erased: Sequence[int] = ()) -> None:
        """Mark slots taken, except those of erased places.

        Raises
        ------
        Damaged
            One of them is taken, or must stay empty: the catalogue contradicts itself.
        """
        mask = self._taken.setdefault(placement.block, self._empty.copy())
        slots = placement.slots()
        outside = slots[0] < 0 or slots[-1] >= len(mask)
        if outside or bool(mask[_held(slots, erased)].any()):
            raise Damaged("the catalogue places two units in one slot, or one in none")
        mask[_held(slots, erased)] = True

    def free(self, placement: Placement, erased: Sequence[int] = ()) -> None:
        """Mark slots free again, except those of places that were erased before."""
        self._taken[placement.block][_held(placement.slots(), erased)] = False

    def erase(self, placement: Placement, places: Sequence[int]) -> None:
        """Mark the slots of some places free again."""
        slots = np.array(placement.slots())[list(places)]
        self._taken[placement.block][slots] = False


def _held(slots: range, erased: Sequence[int]) -> slice | npt.NDArray[np.int64]:
    if erased:
        return np.delete(np.array(slots), erased)
    return slice(slots.start, slots.stop, slots.step)


def _first_free(taken: Mask, step: int, count: int) -> int | None:
    """Smallest ``o`` with ``o, o + step, ... `` (``count`` of them) free and in the block."""
    last = len(taken) - (count - 1) * step
    # busy[o] counts the taken ones among the slots from o on: a windowed sum along the step.
    steps = taken.reshape(-1, step).astype(np.int32)
    sums = np.zeros((len(steps) + 1, step), dtype=np.int32)
    np.cumsum(steps, axis=0, out=sums[1:])
    busy = (sums[count:] - sums[:-count]).reshape(-1)[:last]
    free = np.flatnonzero(busy == 0)
    return int(free[0]) if len(free) else None
