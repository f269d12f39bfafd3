"""The catalogue in one SQLite file."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from underseal_core.errors import Busy, Damaged, StorageFull, UndersealError
from underseal_core.gallery.disk import FULL_TEXT, disk_errors
from underseal_server.store.database import Database, Unsettled
from underseal_server.store.sqlite_log import Log

_FULL: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
)
_NOT_WRITTEN: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})
"""Of a commit: its last page is not in the log, so no later start takes it for complete."""
_IDLE_CONNECTIONS: Final = 5
"""Most that the pool keeps."""
_WRITES: Final = "writes"
"""Marks a connection that has been found able to write."""
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
        self._log = path.with_name(path.name + "-wal")
        log = Log(path, self._log)
        # The connection used last comes first: what it has read of the file is still true.
        engine = sa.create_engine(f"sqlite:///{path}", hide_parameters=True, pool_use_lifo=True)
        super().__init__(engine)
        self._in_doubt = False
        self._settling = threading.Lock()
        sa.event.listen(self._engine, "connect", _on_connect)
        sa.event.listen(self._engine, "begin", _on_begin)
        try:
            self._check(log)
            self.open()
        except BaseException:
            self.close()
            raise

    def _check(self, log: Log) -> None:
        """See that opening the file lost nothing of its log.

        Raises
        ------
        Damaged
            The log was changed.
        """
        if log.lost(self._checkpoint("PASSIVE")):
            raise Damaged(
                "the log of the server's catalogue is damaged: changes that were answered are lost",
                hint="restore catalogue.sqlite and catalogue.sqlite-wal together from a backup",
            )

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        self._settle()
        with self._engine.connect() as connection:
            transaction = self._begun(connection)
            try:
                yield connection
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except sa.exc.DBAPIError as error:
                with suppress(sa.exc.DBAPIError):
                    transaction.rollback()
                self._failed(error)
                raise

    def _begun(self, connection: sa.Connection) -> sa.RootTransaction:
        """Begin to write; a connection that was opened while nothing could be written is replaced.

        It may only read for as long as it lives, and says so with its first change.
        """
        for _ in range(_IDLE_CONNECTIONS):
            transaction = connection.begin()
            if _WRITES in connection.info:
                return transaction
            try:
                connection.exec_driver_sql("DELETE FROM catalogue WHERE 0")
            except sa.exc.OperationalError as error:
                if getattr(error.orig, "sqlite_errorcode", 0) != sqlite3.SQLITE_READONLY:
                    return transaction  # such as before there are tables
            else:
                connection.info[_WRITES] = True
                return transaction
            transaction.rollback()
            connection.invalidate()
        return connection.begin()

    def _failed(self, error: sa.exc.DBAPIError) -> None:
        """See to it that a commit that failed is not found complete by a later start.

        When the sync of the log fails, the change is undone here, but all of it may be in the log:
        only without that it is undone for good.

        Raises
        ------
        Unsettled
            The log cannot be emptied either.
        """
        if getattr(error.orig, "sqlite_errorcode", None) in _NOT_WRITTEN:
            return
        self._in_doubt = True
        try:
            self._settle()
        except UndersealError:
            raise Unsettled(
                "the catalogue failed while it saved the change: it may be made or not",
                hint="call the operator; the same request again is not done twice",
            ) from None

    def _settle(self) -> None:
        """Empty the log, if the commit before failed: nobody reads or writes in between."""
        with self._settling:
            if self._in_doubt:
                self._checkpoint("TRUNCATE")
                with disk_errors(), self._log.open("rb") as log:
                    os.fsync(log.fileno())
                self._in_doubt = False

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        self._settle()
        with self._engine.connect().execution_options(reads=True) as connection:
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with super()._errors():
                yield
        except UnicodeDecodeError as error:
            raise self._named(error) from None  # SQLite quotes a damaged schema, as it is

    def _translated(self, error: sa.exc.DBAPIError) -> UndersealError:
        return self._named(error.orig)

    def _named(self, error: BaseException | None) -> UndersealError:
        if getattr(error, "sqlite_errorcode", None) in _FULL:
            return StorageFull(FULL_TEXT)
        return Damaged("the server's catalogue failed; nothing was changed")

    def _purge(self) -> None:
        # The log holds pages as they were: empty it. Deleted content is overwritten in the file.
        self._checkpoint("TRUNCATE")

    def _checkpoint(self, kind: str) -> int:
        """Bring the log into the database's file; return how many pages the log had."""
        try:
            with closing(self._engine.raw_connection()) as connection:
                found = connection.cursor().execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._named(error) from None
        busy, pages, _ = found
        if busy:
            raise Busy("the catalogue is being read")
        return max(0, int(pages))

    def _own_problems(self, connection: sa.Connection) -> Iterator[str]:
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        yield from (text for text in found if text != "ok")
        for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            yield f"a row of {row[0]} refers to nothing"
