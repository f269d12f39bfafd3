from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from underseal_core.errors import Damaged, StorageFull
from underseal_server.store.database import Database
from underseal_server.store.schema import metadata, requests


def test_migrations_make_exactly_the_schema(tmp_path: Path) -> None:
    database = Database(tmp_path / "catalogue.sqlite")
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    database.close()


def test_opening_again_migrates_nothing_and_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    first = Database(path)
    with first.writing() as connection:
        row = {"request_id": "a", "client": "b", "expires_at": "c"}
        connection.execute(requests.insert().values(row))
    first.close()
    second = Database(path)
    with second.reading() as connection:
        assert connection.scalar(sa.select(requests.c.client)) == "b"
    second.close()


def test_a_commit_is_synced_to_the_disk(tmp_path: Path) -> None:
    database = Database(tmp_path / "catalogue.sqlite")
    with database.writing() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    database.close()


def test_a_full_disk_is_reported_and_nothing_is_changed(tmp_path: Path) -> None:
    database = Database(tmp_path / "catalogue.sqlite")
    with database.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        assert isinstance(pages, int)
    with pytest.raises(StorageFull), database.writing() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
        for number in range(1000):
            row = {"request_id": str(number), "client": "x" * 60, "expires_at": ""}
            connection.execute(requests.insert().values(row))
    with database.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(requests)) == 0
    database.close()


def test_a_catalogue_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    Database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Damaged, match="newer version"):
        Database(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(Damaged):
        Database(path)
