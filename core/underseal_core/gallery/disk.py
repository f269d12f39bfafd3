"""The errors of a disk, and folders that are durable when they are made."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from underseal_core.durable import sync_folder
from underseal_core.errors import Damaged, StorageFull

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
FULL_TEXT: Final = "there is no room to store this; nothing was changed"


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
        raise Damaged("the storage failed") from error


def make_folder(folder: Path) -> None:
    """Create a folder, and those above it that are missing; fine when it exists.

    For the owner only, and durably: each is synced into the one above before anything is in it.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        sync_folder(folder.parent)
    except OSError:
        with suppress(OSError):
            folder.rmdir()  # so that whoever tries again syncs again
        raise
