"""What opening a log does: rebuild the tree from entries and hold it against what was signed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from underseal_core.errors import Damaged
from underseal_core.tlog.builder import TileBuilder
from underseal_core.tlog.checkpoint import Checkpoint
from underseal_core.tlog.disk import replace
from underseal_core.tlog.layout import (
    HASH_BYTES,
    TILE_WIDTH,
    TileFile,
    bundle_path,
    decode_bundle,
    encode_bundle,
)

_RESTORE = "restore the log from a mirror; do not start a new one in its place"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The tree, and the full files that a crash kept from being written."""

    builder: TileBuilder
    missing: list[TileFile]


def rebuild(directory: Path, head: Checkpoint, journal: Iterable[tuple[int, bytes]]) -> Rebuilt:
    """Rebuild the tree from full bundles, then from the journal's (index, entry) pairs.

    Entries beyond ``head`` were durable but not acknowledged; they stay, since they may have
    been seen. Partial files that a crash tore are written anew.

    Raises
    ------
    Damaged
        Entries that ``head`` covers are missing or changed, or a full tile is.
    """
    builder = TileBuilder()
    full: list[TileFile] = []
    _check_head(builder, head)
    for index, entry in _stored_entries(directory, journal):
        if index == builder.size:
            full.extend(builder.append(entry))
            _check_head(builder, head)
    if builder.size < head.size:
        raise Damaged("entries that were acknowledged are missing from the log", hint=_RESTORE)
    for file in full:
        shutil.rmtree(directory / f"{file.path}.p", ignore_errors=True)
    _mend_partials(directory, builder)
    return Rebuilt(builder, [file for file in full if not _holds(directory, file)])


def _stored_entries(
    directory: Path, journal: Iterable[tuple[int, bytes]]
) -> Iterator[tuple[int, bytes]]:
    bundle = 0
    while (path := directory / bundle_path(bundle)).exists():
        entries = decode_bundle(path.read_bytes(), TILE_WIDTH)
        yield from enumerate(entries, bundle * TILE_WIDTH)
        bundle += 1
    yield from journal


def _check_head(builder: TileBuilder, head: Checkpoint) -> None:
    if builder.size == head.size and builder.root() != head.root:
        raise Damaged("the log's entries do not give the root that was signed", hint=_RESTORE)


def _holds(directory: Path, file: TileFile) -> bool:
    """Tell whether a full file is there; it was fsynced, so other content is no crash."""
    path = directory / file.path
    if not path.exists():
        return False
    if path.read_bytes() != file.data:
        raise Damaged("a tile of the log was changed", hint=_RESTORE)
    return True


def _mend_partials(directory: Path, builder: TileBuilder) -> None:
    """Write torn partial files anew: they are not fsynced, and older checkpoints need theirs."""
    for file in builder.partials():
        newest = directory / file.path
        for path in newest.parent.glob("*"):
            width = int(path.name) if path.name.isdecimal() else 0
            if not 0 < width <= int(newest.name):
                path.unlink()
                continue
            if file.path.startswith("tile/entries/"):
                wanted = encode_bundle(builder.entries[:width])
            else:
                wanted = file.data[: width * HASH_BYTES]
            if path.read_bytes() != wanted:
                replace(path, wanted, durable=False)
