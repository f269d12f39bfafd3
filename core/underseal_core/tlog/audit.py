"""Recomputes a log from its entries; imports nothing of the prover or the writer.

Everything that the files say is derived again: leaf hashes, root, every tile. What the log said
earlier (checkpoints in receipts, in a witness's memory) must be a prefix of what it says now.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from underseal_core.errors import Damaged, NotFound
from underseal_core.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from underseal_core.tlog.layout import (
    CHECKPOINT,
    TILE_WIDTH,
    bundle_path,
    decode_bundle,
    tile_path,
    tile_width,
)
from underseal_core.tlog.note import VerifierKey
from underseal_core.tlog.verifier import hash_entry, layers, root_of

_KEEP = "keep both checkpoints: they prove it"

Visit = Callable[[int, bytes], None]


@dataclass(frozen=True, slots=True)
class LogReport:
    """What was verified: the checkpoint with its cosignatures, and how many files."""

    signed: SignedCheckpoint
    tiles: int
    bundles: int


def verify_log(
    directory: Path,
    log: VerifierKey,
    known: Sequence[bytes] = (),
    witnesses: Sequence[VerifierKey] = (),
    *,
    quorum: int = 0,
    visit: Visit | None = None,
) -> LogReport:
    """Verify a whole log, from its entries up.

    Parameters
    ----------
    directory
        The log, or a mirror of it.
    log
        The log's key.
    known
        Signed checkpoints of this log from elsewhere: it must have kept its word about each.
    witnesses, quorum
        As for :func:`open_checkpoint`.
    visit
        Called with index and content of every entry; use what it gathered only when this
        function returns.

    Raises
    ------
    NotFound
        No log here.
    Damaged
        A file is missing, cut or changed; the log was rolled back or forked.
    PermissionRefused
        A checkpoint is not signed by the log, or by too few witnesses.
    """
    try:
        raw = (directory / CHECKPOINT).read_bytes()
    except OSError as error:
        raise NotFound("there is no log here, or it has no checkpoint") from error
    signed = open_checkpoint(raw, log, witnesses, quorum=quorum)
    head = signed.checkpoint
    leaves = _hash_entries(directory, head.size, visit)
    if not hmac.compare_digest(root_of(leaves), head.root):
        raise Damaged("the log's entries do not give the root that was signed")
    tiles = _check_tiles(directory, leaves)
    for earlier in known:
        _check_prefix(leaves, open_checkpoint(earlier, log).checkpoint)
    return LogReport(signed, tiles, -(-head.size // TILE_WIDTH))


def _hash_entries(directory: Path, size: int, visit: Visit | None) -> list[bytes]:
    leaves: list[bytes] = []
    for bundle in range(-(-size // TILE_WIDTH)):
        width = tile_width(0, bundle, size)
        data, found = _read(directory, bundle_path(bundle, width), bundle_path(bundle), width)
        for entry in decode_bundle(data, found)[:width]:
            if visit is not None:
                visit(len(leaves), entry)
            leaves.append(hash_entry(entry))
    return leaves


def _check_tiles(directory: Path, leaves: Sequence[bytes]) -> int:
    """Compare every tile with the layers of the recomputed tree; return their number."""
    size, count = len(leaves), 0
    for level, layer in enumerate(layers(leaves)[::8] if leaves else []):
        for index in range(-(-(size >> (8 * level)) // TILE_WIDTH)):
            width = tile_width(level, index, size)
            paths = tile_path(level, index, width), tile_path(level, index)
            data, found = _read(directory, *paths, width)
            wanted = b"".join(layer[index * TILE_WIDTH : index * TILE_WIDTH + width])
            if len(data) != 32 * found or data[: len(wanted)] != wanted:
                raise Damaged("a tile of the log does not follow from its entries")
            count += 1
    return count


def _check_prefix(leaves: Sequence[bytes], earlier: Checkpoint) -> None:
    if earlier.size > len(leaves):
        raise Damaged("the log was rolled back: it has signed a larger tree", hint=_KEEP)
    if not hmac.compare_digest(root_of(leaves[: earlier.size]), earlier.root):
        raise Damaged("the log is forked: it has signed another history", hint=_KEEP)


def _read(directory: Path, path: str, full: str, width: int) -> tuple[bytes, int]:
    """Return a file and its width; a full one may have taken the place of a partial one."""
    for name, found in ((path, width), (full, TILE_WIDTH)):
        try:
            return (directory / name).read_bytes(), found
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Damaged("a file of the log cannot be read") from error
    raise Damaged("a file of the log is missing")
