"""The catalogue's database: durable transactions, migrations, translated errors.

What holds for every kind: one server at a time; writers one after another, each seeing everything
that was committed before; a reader sees one state throughout; a commit that returned survives a
loss of power.
"""

from __future__ import annotations

import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from underseal_core.errors import Busy, Damaged, StorageFull, UndersealError
from underseal_server.store.schema import catalogue, metadata

MIGRATIONS: Final = Path(__file__).parent / "migrations"


class Unsettled(Busy):
    """Nobody knows yet whether a change was committed: open what it changed anew before use."""


@contextmanager
def partly_done() -> Iterator[None]:
    """Do what follows a change that is committed: a failure must not say that nothing was changed.

    Raises
    ------
    StorageFull, Damaged, Busy
        As the block does, in other words.
    """
    try:
        yield
    except Unsettled:
        raise
    except (StorageFull, Damaged, Busy) as error:
        raise type(error)(
            "the storage failed when a part of this was done",
            hint="call the operator; the same request again does the rest",
        ) from error


class Database(ABC):
    """The catalogue at the newest schema. Subclasses are the kinds of databases.

    Attributes
    ----------
    identity
        Random name of this catalogue, 32 hexadecimal digits; its files belong to it alone.
    doubts
        How many changes were :class:`Unsettled`. What was read before the last is no longer sure.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._forgotten = True  # whether the server before had purged what it removed is not known
        self._purging = threading.Lock()
        self.identity = ""
        self.doubts = 0

    def open(self) -> None:
        """Migrate, and find out which catalogue it is. Writes nothing where nothing is new."""
        with self.writing() as connection:
            _migrate(connection)
            self.identity = _identity(connection)

    @abstractmethod
    def _write(self) -> AbstractContextManager[sa.Connection]:
        """One transaction, alone and durable."""

    @abstractmethod
    def _read(self) -> AbstractContextManager[sa.Connection]:
        """One consistent view."""

    @abstractmethod
    def _translated(self, error: sa.exc.DBAPIError) -> UndersealError:
        """Say what a failure means for the caller."""

    @abstractmethod
    def _purge(self) -> None:
        """Drop what updates and deletions have left in the database's files, as far as it can."""

    def _own_problems(self, connection: sa.Connection) -> Iterator[str]:
        """Yield what the database finds wrong with itself."""
        for table in metadata.sorted_tables:
            connection.execute(sa.select(table)).all()
        for table in metadata.sorted_tables:
            yield from _orphans(connection, table)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def problems(self) -> list[str]:
        """Return what the database finds wrong with itself."""
        with self.reading() as connection:
            return [f"catalogue: {text}" for text in self._own_problems(connection)]

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One atomic transaction, durable when the block has ended.

        Raises
        ------
        StorageFull
            No room; nothing was changed.
        Unsettled
            The connection was lost at the last moment: it may or may not have been committed.
        Busy
            The database cannot be reached; nothing was changed.
        Damaged
            The database failed otherwise; nothing was changed.
        """
        with self._errors(), self._write() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One consistent view; writers are not kept waiting. Raises as :meth:`writing`."""
        with self._errors(), self._read() as connection:
            yield connection

    def forgotten(self) -> None:
        """Take note that something was removed which must not linger: see :meth:`purge`."""
        self._forgotten = True

    def purge(self) -> None:
        """Drop what removals have left in the database's files, if there was one.

        One at a time: SQLite turns a second one away at once, however long it may wait.
        """
        with self._purging:
            if not self._forgotten:
                return
            self._forgotten = False  # before: what is removed meanwhile may be left
            try:
                with self._errors():
                    self._purge()
            except BaseException:
                self._forgotten = True
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Unsettled:
            self.doubts += 1
            raise
        except sa.exc.IntegrityError:
            raise  # callers know which constraint it was
        except sa.exc.DBAPIError as error:
            # Not "from error": a driver's text may quote a badly written URL, password and all.
            raise self._translated(error) from None


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


def _identity(connection: sa.Connection) -> str:
    known = connection.scalar(sa.select(catalogue.c.identity))
    if known is not None:
        return str(known)
    identity = secrets.token_hex(16)
    connection.execute(catalogue.insert().values(id=1, identity=identity, openings=0))
    return identity


def _orphans(connection: sa.Connection, table: sa.Table) -> Iterator[str]:
    for key in table.foreign_keys:
        there = sa.select(key.column).where(key.column == key.parent).exists()
        lost = sa.select(sa.func.count()).select_from(table).where(~there)
        if connection.scalar(lost):
            yield f"a row of {table.name} refers to nothing"
