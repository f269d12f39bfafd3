"""The catalogue in a PostgreSQL database, version 13 or newer.

All writes go over one connection, which holds a lock that no other server gets. When that
connection is lost, the lock is taken again before the next write, and the number of openings
tells whether another server was there in between: then this one stops, for what it holds in memory
is no longer true. Readers look at the number too, so that a server that was replaced without
noticing answers nothing any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import sqlalchemy as sa
import structlog

from underseal_core.errors import Busy, Damaged, InvalidInput, StorageFull, UndersealError
from underseal_core.gallery.disk import FULL_TEXT
from underseal_server.store.database import Database, Unsettled
from underseal_server.store.schema import catalogue

SETTLE_SECONDS: Final = 20.0
"""How long a lost connection may be away before the fate of its last commit is left open."""
_PAUSE_SECONDS: Final = 0.2
PURGE_PAUSES: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds between looks whether everybody who may see what was removed has ended."""
_LOCK: Final = int.from_bytes(b"undersea")
"""Of PostgreSQL's advisory locks, which belong to the database."""
_WAIT: Final = "3s"
"""For the lock: the session of a server that was killed may last a moment longer."""

_OPTIONS: Final = {
    "application_name": "underseal-server",
    "connect_timeout": 10,
    # Both ends notice a line that is dead: a server elsewhere cannot begin before that.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "options": "-c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
}
_HORIZONS: Final = """
SELECT relfrozenxid::text::bigint FROM pg_class WHERE oid IN (
    'templates'::regclass, (SELECT reltoastrelid FROM pg_class WHERE oid = 'templates'::regclass)
)"""
"""The oldest transactions of which the table, and what is stored beside it, may hold rows."""
_FULL: Final = "53100"
_LOCK_NOT_AVAILABLE: Final = "55P03"
_NO_CONNECTION: Final = frozenset({"", "08", "53", "57"})
"""Classes of states: connection, resources, operator intervention; a lost line has no state."""
_REFUSED: Final = frozenset({"25", "28", "3D", "42"})
"""Read-only standby, wrong password, no such database, no privilege."""

_log: Final = structlog.get_logger("underseal.store")


def _on_connect(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        (level,) = cursor.execute("SHOW synchronous_commit").fetchone()
        if level in ("off", "local"):  # a commit that returned survives a loss of power
            cursor.execute("SET synchronous_commit = on")
    connection.commit()


class PostgresDatabase(Database):
    """A database that this server has for itself.

    Parameters
    ----------
    url
        ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE`` with libpq's parameters behind ``?``.

    Raises
    ------
    InvalidInput
        The URL is no such URL, the database refuses it, or another server uses the database.
    Busy
        Nothing answers there.
    StorageFull, Damaged
        It cannot be migrated.
    """

    def __init__(self, url: str) -> None:
        super().__init__(_engine(url))
        self._turn = threading.Lock()
        self._openings = 0
        """How many times servers had opened the catalogue when this one did."""
        self._newest = 0
        """Number of the newest transaction that changed something."""
        self._writer: sa.Connection | None = None
        sa.event.listen(self._engine, "connect", _on_connect)
        try:
            self.open()
            self._warn()
        except BaseException:
            self.close()
            raise

    def open(self) -> None:
        """Migrate, and count the opening."""
        super().open()
        with self.writing() as connection:
            connection.execute(catalogue.update().values(openings=catalogue.c.openings + 1))
            self._openings = int(connection.scalar(sa.select(catalogue.c.openings)) or 0)

    def close(self) -> None:
        """Close all connections, which lets other servers have the database."""
        self._let_go()
        super().close()

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._turn:
            connection, number = self._begin()
            try:
                yield connection
            except BaseException:
                with suppress(sa.exc.DBAPIError):
                    connection.rollback()
                if connection.invalidated:
                    self._let_go()
                raise
            self._newest = int(number)
            self._commit(connection, number)

    def _begin(self) -> tuple[sa.Connection, str]:
        """Begin a transaction and return its number; once more if the line was dead."""
        query = sa.text("SELECT pg_current_xact_id()::text")
        try:
            connection = self._held()
            return connection, str(connection.scalar(query))
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self._let_go()
        connection = self._held()
        return connection, str(connection.scalar(query))

    def _held(self) -> sa.Connection:
        """Return the connection that holds the lock."""
        if self._writer is None:
            connection = self._engine.connect()
            try:
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_WAIT}'"))
                connection.execute(sa.select(sa.func.pg_advisory_lock(_LOCK)))
                connection.commit()
                self._check(connection)
                connection.commit()
            except BaseException:
                connection.invalidate()
                connection.close()
                raise
            self._writer = connection
        return self._writer

    def _let_go(self) -> None:
        connection, self._writer = self._writer, None
        if connection is not None:
            # Not back to the pool: its session holds the lock.
            connection.invalidate()
            connection.close()

    def _check(self, connection: sa.Connection) -> None:
        """Refuse when another server has opened the catalogue after this one."""
        openings = sa.select(catalogue.c.openings)
        if self._openings and connection.scalar(openings) != self._openings:
            raise Damaged(
                "another server has taken over this catalogue", hint="stop one of the two"
            )

    def _commit(self, connection: sa.Connection, number: str) -> None:
        try:
            connection.commit()
        except sa.exc.DBAPIError as error:
            if not (error.connection_invalidated or connection.invalidated):
                raise
            self._let_go()
            _log.warning("connection lost in a commit")
            if not self._committed(number):
                raise

    def _committed(self, number: str) -> bool:
        """Find out what became of a transaction whose connection was lost."""
        query = sa.text("SELECT pg_xact_status(CAST(:number AS xid8))")
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                connection = self._held()
                status = connection.scalar(query, {"number": number})
                connection.commit()
            except sa.exc.DBAPIError:
                self._let_go()
                status = "unknown"
            if status in ("committed", "aborted"):
                return bool(status == "committed")
            if time.monotonic() > end:
                raise Unsettled(
                    "the catalogue's database went away while a change was stored",
                    hint="send it again: it is stored once",
                )
            time.sleep(_PAUSE_SECONDS)

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with self._engine.connect() as plain:
            connection = plain.execution_options(postgresql_readonly=True)
            self._check(connection)
            yield connection

    def _translated(self, error: sa.exc.DBAPIError) -> UndersealError:
        state = getattr(error.orig, "sqlstate", None) or ""
        if state == _FULL:
            return StorageFull(FULL_TEXT)
        if state == _LOCK_NOT_AVAILABLE:
            return InvalidInput(
                "the catalogue's database is used by another server", hint="stop that one first"
            )
        if state[:2] in _REFUSED:
            return InvalidInput(
                "the catalogue's database refuses this server", hint="see its log for the reason"
            )
        if error.connection_invalidated or state[:2] in _NO_CONNECTION:
            return Busy(
                "the catalogue's database cannot be reached; nothing was changed",
                hint="if this lasts: is it running, and is the setting catalogue right?",
            )
        return Damaged("the server's catalogue failed")

    def _purge(self) -> None:
        """Vacuum, and see to it that no row stays of which nobody may know any more.

        Raises
        ------
        Busy
            Somebody may still see rows as they were: an open transaction that began before, a
            prepared one, a replication slot, a standby that feeds back; or holds the table.
        """
        newest = self._newest
        for pause in (*PURGE_PAUSES, 0.0):
            if self._vacuum(newest):
                return
            time.sleep(pause)
        raise Busy(
            "what was removed is still in the catalogue's database: somebody may see it there",
            hint="try again; if this lasts, the operator ends what holds it: see Removed labels",
        )

    def _vacuum(self, newest: int) -> bool:
        """Vacuum, and return whether all that transactions up to ``newest`` removed is gone.

        ``FREEZE`` looks at every page that changed. The table's ``relfrozenxid`` is then beyond
        every transaction that all others have seen the end of, and rows that those removed went.
        """
        with self._engine.connect() as plain:
            connection = plain.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(sa.text(f"SET lock_timeout = '{_WAIT}'"))
            try:
                connection.execute(sa.text("VACUUM (FREEZE) templates"))
                horizons = list(connection.scalars(sa.text(_HORIZONS)))
            except sa.exc.DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                    raise
                return False
            finally:
                with suppress(sa.exc.DBAPIError):
                    connection.execute(sa.text("RESET lock_timeout"))
        # Numbers of 32 bits go round: the later one is less than half of them ahead.
        return all((int(one) - newest - 1) % (1 << 32) < 1 << 31 for one in horizons)

    def _warn(self) -> None:
        with self.reading() as connection:
            for setting in ("fsync", "full_page_writes"):
                if connection.scalar(sa.text(f"SHOW {setting}")) != "on":
                    _log.warning("a loss of power can lose acknowledged changes", off=setting)


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() != "postgresql" or not parsed.database:
            raise ValueError
        return sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            hide_parameters=True,
            isolation_level="REPEATABLE READ",
            pool_pre_ping=True,
            connect_args={**_OPTIONS, **parsed.query},
        )
    except ImportError as error:
        raise InvalidInput(
            "this server has no PostgreSQL driver", hint="install underseal[server,postgres]"
        ) from error
    except (ValueError, sa.exc.ArgumentError):
        raise InvalidInput(
            "the setting catalogue is not a PostgreSQL URL",
            hint="write postgresql://USER:PASSWORD@HOST/DATABASE; escape : / @ as %3A %2F %40",
        ) from None
