"""The catalogue in one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from underseal_core.errors import Damaged, StorageFull, UndersealError
from underseal_core.gallery.disk import FULL_TEXT
from underseal_server.store.database import Database

_FULL: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
)
_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a commit that returned survives a loss of power
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",  # removed labels must not linger in free pages
    "PRAGMA busy_timeout = 10000",
)


def _on_connect(connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself: _on_begin does, and says which kind.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _on_begin(connection: sa.Connection) -> None:
    kind = "DEFERRED" if connection.get_execution_options().get("reads") else "IMMEDIATE"
    connection.exec_driver_sql(f"BEGIN {kind}")


class SqliteDatabase(Database):
    """One file. That one server uses it is seen to by the lock of the data folder.

    Parameters
    ----------
    path
        The file; made when it does not exist.

    Raises
    ------
    StorageFull, Damaged
        It cannot be opened or migrated.
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        super().__init__(sa.create_engine(f"sqlite:///{path}", hide_parameters=True))
        sa.event.listen(self._engine, "connect", _on_connect)
        sa.event.listen(self._engine, "begin", _on_begin)
        self.open()

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with self._engine.connect().execution_options(reads=True) as connection:
            yield connection

    def _translated(self, error: sa.exc.DBAPIError) -> UndersealError:
        if getattr(error.orig, "sqlite_errorcode", None) in _FULL:
            return StorageFull(FULL_TEXT)
        return Damaged("the server's catalogue failed")

    def _purge(self) -> None:
        # The log holds pages as they were: empty it. Deleted content is overwritten in the file.
        with closing(self._engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _own_problems(self, connection: sa.Connection) -> Iterator[str]:
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        yield from (text for text in found if text != "ok")
        for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            yield f"a row of {row[0]} refers to nothing"
