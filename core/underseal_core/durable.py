"""Whole files, written so that a crash leaves the old content or the new, never a part."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def replace_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write ``data`` under ``path``, in place of what may be there; durable on return.

    Raises
    ------
    OSError
        It cannot be written; what was there is untouched.
    """
    with _written_beside(path, data) as temporary:
        temporary.chmod(mode)
        temporary.replace(path)
    sync_folder(path.parent)


def create_file(path: Path, data: bytes) -> None:
    """Write ``data`` under ``path``, readable by the owner only; durable on return.

    Raises
    ------
    FileExistsError
        The name is taken; what is there is untouched.
    OSError
        It cannot be written.
    """
    with _written_beside(path, data) as temporary:
        path.hardlink_to(temporary)
    sync_folder(path.parent)


def erase_file(path: Path) -> None:
    """Overwrite a file and delete it; does nothing when it is not there. Durable on return.

    Copies that the file system or the storage device keeps are out of reach.

    Raises
    ------
    OSError
        It cannot be written.
    """
    try:
        with path.open("r+b") as file:
            file.write(bytes(os.fstat(file.fileno()).st_size))
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        return
    path.unlink()
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _written_beside(path: Path, data: bytes) -> Iterator[Path]:
    """Yield a durable temporary file beside ``path``, mode 0600; it is gone afterwards."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
