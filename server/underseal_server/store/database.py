"""The catalogue's database: connections, durable transactions, migrations, translated errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from underseal_core.errors import Damaged, StorageFull
from underseal_core.gallery.disk import FULL_TEXT

MIGRATIONS: Final = Path(__file__).parent / "migrations"

_SQLITE_FULL: Final = frozenset(
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


class Database:
    """One SQLite file at the newest schema.

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
        self._engine = sa.create_engine(f"sqlite:///{path}", hide_parameters=True)
        sa.event.listen(self._engine, "connect", _on_connect)
        sa.event.listen(self._engine, "begin", _on_begin)
        with self.writing() as connection:
            _migrate(connection)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def problems(self) -> list[str]:
        """Return what the database finds wrong with itself."""
        with self.reading() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
            orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        texts = [f"catalogue: {text}" for text in found if text != "ok"]
        return texts + [f"catalogue: a row of {row[0]} refers to nothing" for row in orphans]

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One atomic transaction, durable when the block has ended.

        Raises
        ------
        StorageFull
            No room; nothing was changed.
        Damaged
            The database failed otherwise; nothing was changed.
        """
        with _database_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One consistent view; writers are not kept waiting."""
        with (
            _database_errors(),
            self._engine.connect().execution_options(reads=True) as connection,
        ):
            yield connection


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except sa.exc.IntegrityError:
        raise  # callers know which constraint it was
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlite_errorcode", None) in _SQLITE_FULL:
            raise StorageFull(FULL_TEXT) from error
        raise Damaged("the server's catalogue failed") from error


def _migrate(connection: sa.Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise Damaged(
            "the catalogue is of a newer version of this program", hint="upgrade the server"
        ) from error
