"""Files that survive a crash: atomic replacement, fsync, one writer at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from underseal_core.durable import sync_folder
from underseal_core.errors import Conflict, Damaged, StorageFull
from underseal_core.tlog.layout import TileFile

TEMPORARY = ".new"


@contextmanager
def storage() -> Iterator[None]:
    """Turn ``OSError`` into the errors that callers know.

    Raises
    ------
    StorageFull
        No space or quota left.
    Damaged
        Any other failure of the file system.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                "no room left for the log", hint="free space, then restart"
            ) from error
        raise Damaged("the log's files cannot be used", hint="call the operator") from error


def make_directories(path: Path, root: Path) -> None:
    """Create ``path`` below ``root``, with every new name made durable."""
    if path == root or path.is_dir():
        return
    make_directories(path.parent, root)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``, however many calls that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def replace(path: Path, data: bytes, *, durable: bool) -> None:
    """Put ``data`` at ``path`` so that readers see the old file or the new one, never a part.

    ``durable`` also waits for the content; the caller syncs the directory.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)


def write_files(directory: Path, files: Sequence[TileFile], *, durable: bool) -> None:
    """Write files of a log; ``durable`` waits for their contents and names."""
    parents = set()
    for file in files:
        path = directory / file.path
        make_directories(path.parent, directory)
        replace(path, file.data, durable=durable)
        parents.add(path.parent)
    if durable:
        for parent in parents:
            sync_folder(parent)


class WriterLock:
    """Held by the one process that writes a directory; the kernel frees it when it dies."""

    def __init__(self, directory: Path) -> None:
        """Take the lock.

        Raises
        ------
        Conflict
            Another writer has it.
        """
        self._descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise Conflict("another process writes this log", hint="stop it first") from error

    def release(self) -> None:
        """Give the lock back; harmless when repeated."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
