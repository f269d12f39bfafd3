"""The schema of every kind of catalogue comes from the migrations, from the first one on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.postgres_fixtures import Cluster
from underseal_core.errors import Damaged
from underseal_server.store.database import Database
from underseal_server.store.postgresql import PostgresDatabase
from underseal_server.store.schema import metadata
from underseal_server.store.sqlite import SqliteDatabase


def differences(database: Database) -> list[object]:
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))


def test_migrations_make_exactly_the_schema(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "catalogue.sqlite")
    assert differences(database) == []
    database.close()


def test_migrations_make_exactly_the_schema_in_postgresql(postgres: Cluster) -> None:
    database = PostgresDatabase(postgres.create())
    assert differences(database) == []
    database.close()


def test_a_catalogue_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    SqliteDatabase(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Damaged, match="newer version"):
        SqliteDatabase(path)
