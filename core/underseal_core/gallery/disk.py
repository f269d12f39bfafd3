"""The errors of a disk, and folders that are durable when they are made."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
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
    """Create a folder for the owner only, durably; fine when it exists."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)
