"""What a dishonest operator can do: change what the server stores, so that nothing looks amiss."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from underseal_core.gallery.block_file import read_header, write_block
from underseal_core.gallery.files import local_file
from underseal_core.gallery.tiles import tiles_root
from underseal_core.scheme.evaluation import tiles_shape
from underseal_core.scheme.profiles import profile_named

if TYPE_CHECKING:
    from pathlib import Path


def empty_blocks(data: Path) -> int:
    """Take everybody out of every stored block, with checksums that fit; return how many blocks.

    The catalogue still lists all templates, and the server finds its files in order: that it named
    this version with another root is taken out of the catalogue, too. Every search then ends with
    "no match".

    Parameters
    ----------
    data
        The folder of a server that is stopped.
    """
    paths = sorted(data.rglob("*.tiles"))
    for path in paths:
        header, _ = read_header(local_file(path))
        shape = tiles_shape(profile_named(header.profile), header.dimension)
        tiles = np.zeros(shape, dtype=np.uint32)
        write_block(local_file(path), replace(header, tiles_root=tiles_root(tiles)), tiles)
    with closing(sqlite3.connect(data / "catalogue.sqlite")) as catalogue, catalogue:
        catalogue.execute("DELETE FROM snapshots")
    return len(paths)
