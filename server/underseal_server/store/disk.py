"""File operations that are durable when they return, and the errors of a disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from underseal_core.errors import Damaged, StorageFull

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
FULL_TEXT: Final = "the server has no room to store this; nothing was changed"


@contextmanager
def disk_errors() -> Iterator[None]:
    """Translate what a disk can raise.

    Raises
    ------
    StorageFull
        No room, or beyond a quota or limit.
    Damaged
        Anything else that the operating system reports.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull(FULL_TEXT) from error
        raise Damaged("the server's storage failed") from error


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder for the owner only, durably; fine when it exists."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)
