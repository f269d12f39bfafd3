"""Ciphertexts of units, byte for byte as they were sent: one file per unit.

A unit's file is its ciphertexts one after another, so its SHA-256 is the unit's. Files are written
under a temporary name while they stream in, synced, and renamed when the unit is accepted.
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

from underseal_core.durable import sync_folder
from underseal_core.errors import Damaged, MalformedCiphertext
from underseal_core.gallery.disk import disk_errors, make_folder
from underseal_core.gallery.unit import Shape, Unit
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext, wire_size
from underseal_core.scheme.profiles import Profile

UNIT_SUFFIX: Final = ".unit"
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
        self._digest.update(data)
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


class UnitFiles:
    """The unit files of one gallery."""

    def __init__(self, folder: Path, profile: Profile, dimension: int) -> None:
        self._folder = folder
        self._profile = profile
        self._dimension = dimension
        with disk_errors():
            make_folder(folder)

    def stage(self, shape: Shape) -> StagedUnit:
        """Begin a unit; use the result as a context manager."""
        path = self._folder / f"{secrets.token_hex(8)}.part"
        return StagedUnit(path, self._profile, self._dimension, shape)

    def keep(self, staged: StagedUnit, name: bytes) -> None:
        """Give a synced file its name, durably; see :meth:`keep_all`."""
        self.keep_all([(staged, name)])

    def keep_all(self, staged: Sequence[tuple[StagedUnit, bytes]]) -> None:
        """Give synced files their names, durably, with one sync for all.

        Raises
        ------
        StorageFull, Damaged
            The storage failed; some may have their names.
        """
        with disk_errors():
            for unit, name in staged:
                unit.path.replace(self.path(name))
            sync_folder(self._folder)

    def path(self, name: bytes) -> Path:
        """Where the ciphertexts of this name are, see :attr:`Unit.name`."""
        return self._folder / (name.hex() + UNIT_SUFFIX)

    def remove(self, name: bytes) -> None:
        """Delete a unit's file; fine when it is gone."""
        with disk_errors():
            self.path(name).unlink(missing_ok=True)

    def sha256(self, name: bytes) -> bytes:
        """Return the hash of a unit's file, whatever it should be.

        Raises
        ------
        Damaged
            It is missing or cannot be read.
        """
        with disk_errors(), self.path(name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def ciphertexts(self, unit: Unit) -> Generator[Ciphertext, None, None]:
        """Yield the unit's ciphertexts, reading one at a time.

        Raises
        ------
        Damaged
            The file is missing or is not what was stored.
        """
        kind = UNIT_KINDS[unit.shape]
        size = wire_size(self._profile, kind)
        digest = hashlib.sha256()
        try:
            with disk_errors(), self.path(unit.name).open("rb") as file:
                for _ in range(unit.shape.ciphertexts(self._dimension)):
                    data = file.read(size)
                    digest.update(data)
                    yield parse_ciphertext(data, self._profile, kind)
        except MalformedCiphertext as error:
            raise Damaged("a stored unit is damaged") from error
        if digest.digest() != unit.sha256:
            raise Damaged("a stored unit is damaged")

    def sweep(self, names: Collection[bytes]) -> int:
        """Delete every file that is of none of these names; return how many."""
        known = {self.path(name).name for name in names}
        with disk_errors():
            unknown = [path for path in self._folder.iterdir() if path.name not in known]
            for path in unknown:
                path.unlink()
        return len(unknown)
