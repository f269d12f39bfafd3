"""Intact copies of units from elsewhere: another data folder, or a guardian's replica."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path

from underseal_core.errors import InvalidInput, MalformedCiphertext
from underseal_core.gallery.unit import Unit
from underseal_core.gallery.unit_files import UNIT_KINDS, UNIT_SUFFIX, UnitFiles
from underseal_core.scheme.ciphertext import wire_size
from underseal_core.scheme.profiles import Profile


class Copies:
    """Folders to look for units in, by name and then by hash. Nothing in them is changed.

    Raises
    ------
    InvalidInput
        One is not a folder.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise InvalidInput(f"{folder} is not a folder to take copies of units from")
        self._roots = folders
        self._folders: list[Path] | None = None

    def restore(self, unit: Unit, files: UnitFiles, profile: Profile) -> bool:
        """Put an intact copy in a unit's place; return whether there was one.

        Raises
        ------
        StorageFull, Damaged
            It cannot be written.
        """
        if self._folders is None:
            walks = (os.walk(root) for root in self._roots)
            self._folders = [Path(folder) for walk in walks for folder, _, _ in walk]
        name = unit.name.hex() + UNIT_SUFFIX
        return any(_restored(folder / name, unit, files, profile) for folder in self._folders)


def _restored(path: Path, unit: Unit, files: UnitFiles, profile: Profile) -> bool:
    try:
        file = path.open("rb")
    except OSError:
        return False
    size = wire_size(profile, UNIT_KINDS[unit.shape])
    with file, files.stage(unit.shape) as staged:
        try:
            while piece := _piece(file, size):
                staged.write(piece)
        except MalformedCiphertext:
            return False
        if not staged.complete or staged.sha256 != unit.sha256:
            return False
        staged.sync()
        files.keep(staged, unit.name)
    return True


def _piece(file: BufferedReader, size: int) -> bytes:
    """Read on; a copy that cannot be read is none."""
    try:
        return file.read(size)
    except OSError:
        return b""
