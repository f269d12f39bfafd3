"""A unit of columns, taken back out of the block that it is in.

The block is the exact sum of its units. Without all the others it is the lost one, moved to its
slots, so the ciphertexts come out bit for bit; their hash tells whether they did. A row cannot be
had back: what is in the block is its expansion.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from underseal_core.errors import Damaged
from underseal_core.gallery.block import Block
from underseal_core.gallery.unit import Shape, Unit
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.scheme.ciphertext import Ciphertext, Kind, Residues
from underseal_core.scheme.evaluation import Evaluator


def recover(
    unit: Unit, others: Iterable[Unit], block: Block, evaluator: Evaluator, files: UnitFiles
) -> bool:
    """Write a unit's file anew from an intact block; return whether it is the unit again.

    Parameters
    ----------
    unit
        The lost one.
    others
        All other units in the block, whose files are intact.
    block
        Loaded from its checkpoint, of exactly these units; it is not changed.
    """
    if unit.shape is not Shape.COLUMNS:
        return False
    rest = block.copy()
    try:
        for other in others:
            rest.fold_out(other)
        moved = np.zeros_like(rest.tiles)
        first = unit.placement.first_slot
        with files.stage(unit.shape) as staged:
            for index in range(evaluator.dimension):
                column = _column(rest.tiles, index)
                if first:  # X^-first = -X^(N - first)
                    evaluator.subtract_column(
                        moved, index, column, evaluator.profile.degree - first
                    )
                    column = _column(moved, index)
                staged.write(Ciphertext(evaluator.profile, Kind.COLUMN, column).to_bytes())
            if staged.sha256 != unit.sha256:
                return False
            staged.sync()
            files.keep(staged, unit.name)
    except Damaged:
        return False
    finally:
        rest.close()
    return True


def _column(tiles: Residues, index: int) -> Residues:
    """Return a column of a block, ``(2, gallery_level, degree)``."""
    level, places, _, _, lanes = tiles.shape
    column = tiles[:, :, index].transpose(2, 0, 1, 3)
    return np.ascontiguousarray(column.reshape(2, level, places * lanes))
