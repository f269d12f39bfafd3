"""Which key epochs of a gallery may have files, and which of their units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from underseal_core.errors import UndersealError
from underseal_core.gallery.unit_files import file_name
from underseal_core.statements import utc_moment
from underseal_server.checking.run import Run
from underseal_server.store.folders import BLOCKS, epoch_name
from underseal_server.store.records import Gallery

UNIT: Final = re.compile(r"[0-9a-f]{32}\.unit")
DELETED: Final = "it is of a gallery that was deleted"
LEFT: Final = "it is of a key epoch that the gallery has left"
NAMELESS: Final = "nothing in the catalogue names it"
REMOVED: Final = "it holds ciphertexts that were removed"


@dataclass(frozen=True, slots=True)
class Epochs:
    """Key epochs of one gallery, as folders are named after them.

    ``now``: the present one. ``kept``: left, but with units for some time yet. ``over``: left for
    longer. ``coming``: on the way to.
    """

    now: str
    kept: frozenset[str]
    over: frozenset[str]
    coming: frozenset[str]

    @classmethod
    def of(cls, run: Run, gallery: Gallery) -> Epochs:
        """Find them out."""
        now = utc_moment(run.store.clock())
        kept, over = set[str](), set[str]()
        for epoch, moved_at in run.store.rotations.left(gallery).items():
            ended = utc_moment(moved_at) + run.options.keep <= now
            (over if ended else kept).add(epoch_name(epoch))
        present = gallery.spec.pin.key_epoch
        try:
            key = run.switching.successor(present)
        except UndersealError:
            key = None  # found where switching keys are checked
        coming = {epoch_name(key.new_epoch)} if key else set()
        return cls(epoch_name(present), frozenset(kept), frozenset(over), frozenset(coming))

    def stray(self, part: str, epoch: str) -> str:
        """Say why no file of this epoch should be there; empty when some should."""
        if epoch in self.over or (part == BLOCKS and epoch in self.kept):
            return LEFT
        known = epoch == self.now or epoch in self.kept or epoch in self.coming
        return "" if known else NAMELESS


def live_files(run: Run, gallery: Gallery, names: Sequence[str]) -> set[str]:
    """Return those of these files that are of live units, as they are or were before."""
    found = run.store.units.by_names(gallery, unit_names(names))
    return {file_name(unit.name) for unit in found if not unit.removed_version}


def unit_names(names: Sequence[str]) -> list[bytes]:
    """Return the names of units whose files these are."""
    return [bytes.fromhex(name[:32]) for name in names if UNIT.fullmatch(name)]
