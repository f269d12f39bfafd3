"""Ciphertexts of units: one file per unit, its ciphertexts one after another.

A unit's SHA-256 is over their plain form (``scheme/ciphertext``). Files are written under a
temporary name while they stream in, synced, and renamed when the unit is accepted.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Collection, Generator, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final, Self

from underseal_core.errors import Damaged, MalformedCiphertext
from underseal_core.gallery.disk import disk_errors
from underseal_core.gallery.files import Files
from underseal_core.gallery.unit import Shape, Unit
from underseal_core.scheme.ciphertext import (
    Ciphertext,
    Kind,
    parse_ciphertext,
    plain_sha256,
    wire_size,
)
from underseal_core.scheme.profiles import Profile

UNIT_SUFFIX: Final = ".unit"
_DAMAGED: Final = "a stored unit is damaged"
UNIT_KINDS: Final = {Shape.ROW: Kind.TEMPLATE_ROW, Shape.COLUMNS: Kind.COLUMN}


class StagedUnit:
    """A unit's file while it streams in. Removed on leaving the context unless it was kept."""

    def __init__(self, path: Path, profile: Profile, dimension: int, shape: Shape) -> None:
        self.path = path
        self.shape = shape
        self._profile = profile
        self._kind = UNIT_KINDS[shape]
        self._wanted = shape.ciphertexts(dimension)
        self._digest = hashlib.sha256()
        self._count = 0
        self._file: FileIO | None = None
        self.row: Ciphertext | None = None

    def __enter__(self) -> Self:
        with disk_errors():
            # Unbuffered, so that closing has nothing left to write and cannot fail.
            self._file = self.path.open("xb", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        with suppress(OSError):  # what cannot be deleted now is swept at the next start
            self.path.unlink()

    @property
    def complete(self) -> bool:
        """Whether every ciphertext has come."""
        return self._count == self._wanted

    @property
    def sha256(self) -> bytes:
        """Hash of what has come."""
        return self._digest.digest()

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self._count * wire_size(self._profile, self._kind)

    def write(self, data: bytes) -> None:
        """Check and append the next ciphertext.

        Raises
        ------
        MalformedCiphertext
            Not the ciphertext that is due, or one too many.
        StorageFull
            No room.
        """
        if self.complete:
            raise MalformedCiphertext(f"the unit has {self._wanted} ciphertexts, and here is more")
        ciphertext = parse_ciphertext(data, self._profile, self._kind)
        if self._kind is Kind.TEMPLATE_ROW:
            self.row = ciphertext
        with disk_errors():
            assert self._file is not None  # noqa: S101  # entered
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        ciphertext.hash_plain(self._digest)
        self._count += 1

    def sync(self) -> None:
        """Make what was written durable.

        Raises
        ------
        StorageFull
            No room.
        """
        with disk_errors():
            assert self._file is not None  # noqa: S101  # entered
            os.fsync(self._file.fileno())


def file_name(name: bytes) -> str:
    """Return the name of the file that holds the ciphertexts of this name."""
    return name.hex() + UNIT_SUFFIX


class UnitFiles:
    """The unit files of one gallery."""

    def __init__(self, files: Files, profile: Profile, dimension: int) -> None:
        self._files = files
        self._profile = profile
        self._dimension = dimension

    def stage(self, shape: Shape) -> StagedUnit:
        """Begin a unit; use the result as a context manager."""
        path = self._files.folder / f"{secrets.token_hex(8)}.part"
        return StagedUnit(path, self._profile, self._dimension, shape)

    def keep(self, staged: StagedUnit, name: bytes) -> None:
        """Give a synced file its name, durably; see :meth:`keep_all`."""
        self.keep_all([(staged, name)])

    def keep_all(self, staged: Sequence[tuple[StagedUnit, bytes]]) -> None:
        """Give synced files their names, durably, with one sync for all.

        Raises
        ------
        StorageFull, Damaged, Busy
            The storage failed; some may have their names.
        """
        self._files.put([(unit.path, file_name(name)) for unit, name in staged])

    def path(self, name: bytes) -> Path:
        """Where the ciphertexts of this name are on a disk, see :attr:`Unit.name`."""
        return self._files.folder / file_name(name)

    def exists(self, name: bytes) -> bool:
        """Whether there is a file of this name."""
        return self._files.exists(file_name(name))

    def remove(self, name: bytes) -> None:
        """Delete a unit's file; fine when it is gone."""
        self._files.delete([file_name(name)])

    def sha256(self, unit: Unit) -> bytes:
        """Return the hash of the ciphertexts that a unit's file holds, whatever it should be.

        Raises
        ------
        Damaged
            It is missing, cannot be read or does not hold a unit of this shape.
        """
        return plain_sha256(self._read(unit))

    def ciphertexts(self, unit: Unit) -> Generator[Ciphertext, None, None]:
        """Yield the unit's ciphertexts, reading one at a time.

        Raises
        ------
        Damaged
            The file is missing or is not what was stored.
        """
        digest = hashlib.sha256()
        for ciphertext in self._read(unit):
            ciphertext.hash_plain(digest)
            yield ciphertext
        if digest.digest() != unit.sha256:
            raise Damaged(_DAMAGED)

    def _read(self, unit: Unit) -> Generator[Ciphertext, None, None]:
        kind = UNIT_KINDS[unit.shape]
        size = wire_size(self._profile, kind)
        try:
            with disk_errors(), self._files.open(file_name(unit.name)) as file:
                for _ in range(unit.shape.ciphertexts(self._dimension)):
                    yield parse_ciphertext(file.read(size), self._profile, kind)
                if file.read(1):
                    raise Damaged(_DAMAGED)
        except MalformedCiphertext as error:
            raise Damaged(_DAMAGED) from error

    def sweep(self, names: Collection[bytes]) -> int:
        """Delete every file that is of none of these names; return how many."""
        unknown = self._files.sizes().keys() - {file_name(name) for name in names}
        self._files.delete(unknown)
        return len(unknown)
