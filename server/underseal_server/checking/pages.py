"""What an SQLite file still holds beside its rows: the log of changes, and pages that are free.

Labels of removed templates must not be there. ``PRAGMA secure_delete`` overwrites what is deleted,
so a free page that holds anything was left by something else (SQLite file format, 1.5).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from underseal_core.errors import Damaged

_FIRST_TRUNK = slice(32, 36)
_PAGE_SIZE = slice(16, 18)


def truncate_log(path: Path) -> int:
    """Bring the log of changes into the file and empty it; return the bytes that are left in it.

    Raises
    ------
    Damaged
        The database cannot be opened.
    """
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            log = path.with_name(path.name + "-wal")
            return log.stat().st_size if log.exists() else 0
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise Damaged("the catalogue cannot be opened") from error


def free_pages_in_use(path: Path) -> int:
    """Return how many free pages of a database, whose log is empty, hold anything."""
    with path.open("rb") as file:
        head = file.read(100)
        size = int.from_bytes(head[_PAGE_SIZE], "big")
        size = 65536 if size == 1 else size
        count, trunk, seen = 0, int.from_bytes(head[_FIRST_TRUNK], "big"), set[int]()
        while trunk and trunk not in seen:
            seen.add(trunk)
            file.seek((trunk - 1) * size)
            page = file.read(size)
            leaves = int.from_bytes(page[4:8], "big")
            for index in range(min(leaves, size // 4 - 2)):
                leaf = int.from_bytes(page[8 + 4 * index : 12 + 4 * index], "big")
                file.seek((max(leaf, 1) - 1) * size)  # 0: a damaged list
                count += any(file.read(size))
            trunk = int.from_bytes(page[:4], "big")
    return count


def rewrite(path: Path) -> None:
    """Write a database anew, without anything but its rows.

    Raises
    ------
    Damaged
        It cannot be read or written.
    """
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise Damaged("the catalogue cannot be written anew") from error
