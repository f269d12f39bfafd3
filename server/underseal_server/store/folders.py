"""Where a gallery's files are: those of each key epoch apart."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_EPOCH_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Folders:
    """Files of one gallery under one key epoch."""

    units: Path
    blocks: Path

    @classmethod
    def of(cls, data: Path, gallery: int, epoch: str) -> Self:
        """Return where they are in a data folder."""
        name = epoch[:_EPOCH_DIGITS]
        units, blocks = (data / part / str(gallery) / name for part in ("units", "blocks"))
        return cls(units, blocks)

    def delete(self, *, with_units: bool) -> None:
        """Delete the blocks, and the units too; what cannot be deleted now is tried again."""
        shutil.rmtree(self.blocks, ignore_errors=True)
        if with_units:
            shutil.rmtree(self.units, ignore_errors=True)
