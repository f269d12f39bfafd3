"""A copy of somebody's log in tlog-tiles layout, brought up to date piece by piece.

Nothing that arrives is believed: the copy is verified as a whole afterwards, from its entries.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, Protocol

from underseal_core.durable import sync_folder
from underseal_core.errors import Busy, Damaged, UndersealError
from underseal_core.tlog import disk
from underseal_core.tlog.checkpoint import SignedCheckpoint, open_checkpoint
from underseal_core.tlog.layout import (
    CHECKPOINT,
    TILE_WIDTH,
    TileFile,
    bundle_path,
    decode_bundle,
    split_tile,
    tile_path,
    tile_width,
)
from underseal_core.tlog.note import VerifierKey
from underseal_core.tlog.verifier import check_consistency

ALARMS: Final = "alarms"


class LogSource(Protocol):
    """A log that can be asked for its parts."""

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint."""

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the log of size ``new`` extends that of size ``old``."""

    def tile(self, level: int, index: int, size: int) -> bytes:
        """Return a tile of the tree of ``size`` leaves."""

    def entries(self, bundle: int, size: int) -> bytes:
        """Return a bundle of the tree of ``size`` leaves."""


class RewrittenLog(Damaged):
    """The log was rolled back or forked; both signed checkpoints were kept."""


class LogMirror:
    """The copy in ``folder``; its ``checkpoint`` file is the newest one that was seen."""

    def __init__(self, folder: Path, key: VerifierKey) -> None:
        self.folder = folder
        self._key = key
        with disk.storage():
            folder.mkdir(parents=True, exist_ok=True)

    def seen(self) -> SignedCheckpoint | None:
        """Return the newest checkpoint of the copy, None before the first update."""
        path = self.folder / CHECKPOINT
        return open_checkpoint(path.read_bytes(), self._key) if path.exists() else None

    def update(self, source: LogSource) -> SignedCheckpoint:
        """Fetch what is new, after checking that the log only grew.

        Raises
        ------
        RewrittenLog
            It did not; the copy stays as it was.
        PermissionRefused
            The checkpoint is not signed by the log.
        """
        shown = open_checkpoint(source.checkpoint(), self._key)
        seen = self.seen()
        if seen is not None:
            self._check_growth(seen, shown, source)
        self._fetch(source, shown.checkpoint.size)
        with disk.storage():
            disk.replace(self.folder / CHECKPOINT, shown.raw, durable=True)
            sync_folder(self.folder)
        return shown

    def _check_growth(
        self, seen: SignedCheckpoint, shown: SignedCheckpoint, source: LogSource
    ) -> None:
        old, new = seen.checkpoint, shown.checkpoint
        if old.size == 0:
            return
        try:
            path = () if old.size >= new.size else source.consistency(old.size, new.size)
            check_consistency(old.size, new.size, path, old.root, new.root)
        except Busy:
            raise
        except UndersealError as error:
            folder = self._keep(seen, shown)
            raise RewrittenLog(
                f"ALARM: the log was rolled back or forked: {error.public}",
                hint=f"both signed checkpoints are in {folder}: they prove it",
            ) from error

    def _keep(self, seen: SignedCheckpoint, shown: SignedCheckpoint) -> Path:
        name = hashlib.sha256(seen.raw + shown.raw).hexdigest()[:16]
        folder = self.folder / ALARMS / name
        with disk.storage():
            folder.mkdir(parents=True, exist_ok=True)
            disk.replace(folder / "seen.checkpoint", seen.raw, durable=True)
            disk.replace(folder / "shown.checkpoint", shown.raw, durable=True)
            sync_folder(folder)
        return folder

    def _fetch(self, source: LogSource, size: int) -> None:
        for bundle in range(-(-size // TILE_WIDTH)):
            width = tile_width(0, bundle, size)
            if not (self.folder / bundle_path(bundle, width)).exists():
                data = source.entries(bundle, size)
                decode_bundle(data, width)
                self._store(TileFile(bundle_path(bundle, width), data))
        level = 0
        while size >> (8 * level):
            for index in range(-(-(size >> (8 * level)) // TILE_WIDTH)):
                width = tile_width(level, index, size)
                if not (self.folder / tile_path(level, index, width)).exists():
                    data = source.tile(level, index, size)
                    split_tile(data, width)
                    self._store(TileFile(tile_path(level, index, width), data))
            level += 1

    def _store(self, file: TileFile) -> None:
        with disk.storage():
            disk.write_files(self.folder, [file], durable=False)
