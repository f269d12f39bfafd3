"""Checkpoints of blocks, as shards read them: from a shared disk or from object storage."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BufferedReader
from pathlib import Path

from underseal_core.errors import Damaged
from underseal_core.gallery.block_file import read_header, read_tiles
from underseal_core.gallery.blocks import checkpoint_name
from underseal_core.gallery.disk import disk_errors
from underseal_core.gallery.files import Readable
from underseal_core.scheme.ciphertext import Residues
from underseal_core.scheme.evaluation import Evaluator, tiles_shape
from underseal_server.store.bucket import Bucket, Location

Key = tuple[str, int]
"""See :attr:`Piece.key`."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One block in one state.

    ``epoch``: its key epoch. ``place``: what all checkpoints of its gallery and epoch begin with,
    in the data folder as in a bucket. ``root``, ``size``: of its tiles, in bytes.
    """

    epoch: str
    place: str
    number: int
    root: str
    size: int

    @property
    def key(self) -> Key:
        """What stays the same when the block changes."""
        return self.place, self.number

    @property
    def name(self) -> str:
        """Name of its checkpoint."""
        return f"{self.place}/{checkpoint_name(self.number)}"


def of_place(keys: Iterable[Key], place: str, numbers: Collection[int] | None) -> list[Key]:
    """Return the keys of blocks of a place; ``None``: of all that are there."""
    return [key for key in keys if key[0] == place and (numbers is None or key[1] in numbers)]


@dataclass(frozen=True, slots=True)
class _DiskFile:
    """A checkpoint on a disk; see ``Readable``."""

    path: Path

    def open(self) -> BufferedReader:
        with disk_errors():
            return self.path.open("rb")

    def read(self, start: int, length: int) -> bytes:
        with disk_errors(), self.path.open("rb") as file:
            file.seek(start)
            return file.read(length)


@dataclass(frozen=True, slots=True)
class _Object:
    """A checkpoint in a bucket; see ``Readable``."""

    bucket: Bucket
    key: str

    def open(self) -> BufferedReader:
        with disk_errors(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tiles"
            self.bucket.fetch(self.key, path)
            return path.open("rb")

    def read(self, start: int, length: int) -> bytes:
        return self.bucket.read(self.key, start, length)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where the checkpoints of a catalogue are; goes to shards as it is.

    Parameters
    ----------
    data
        The data folder, on a disk that every machine has under the same path.
    objects
        The bucket instead, without an access key: each machine has one of its own, which may read
        only.
    """

    data: Path
    objects: Location | None = None

    @classmethod
    def of(cls, data: Path, objects: Location | None) -> Checkpoints:
        """Return those of a server, without the server's access key."""
        public = None if objects is None else replace(objects, key_id="", secret="")
        return cls(data.resolve(), public)

    def tiles(self, piece: Piece, evaluator: Evaluator) -> Residues:
        """Read a block's tiles.

        Raises
        ------
        Damaged
            The checkpoint is missing, is damaged, or is of another state than the piece.
        Busy
            The object storage cannot be reached.
        """
        file = self._file(piece)
        header, offset = read_header(file)
        found = header.profile, header.dimension, header.block, header.tiles_root
        if found != (evaluator.profile.name, evaluator.dimension, piece.number, piece.root):
            raise Damaged("a block file is not the one that the server named")
        shape = tiles_shape(evaluator.profile, evaluator.dimension)
        return read_tiles(file, header, offset, shape)

    def _file(self, piece: Piece) -> Readable:
        if self.objects is None:
            return _DiskFile(self.data / piece.name)
        return _Object(_bucket(self.objects), piece.name)


@lru_cache(maxsize=1)
def _bucket(location: Location) -> Bucket:
    """Return the bucket with its connections, which serve all blocks of a shard."""
    return Bucket(location)
