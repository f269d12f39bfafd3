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
from underseal_server.store.galleries import Galleries
from underseal_server.store.postgresql import PostgresDatabase
from underseal_server.store.records import TemplateFilter
from underseal_server.store.schema import metadata
from underseal_server.store.sqlite import SqliteDatabase
from underseal_server.store.templates import Templates
from underseal_server.store.units import Units

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "catalogues"
"""Dumps of catalogues as earlier versions of the server left them, by revision: a gallery with a
row of three, columns of five of which one is removed, and a removed row of one."""


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


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.sql")), ids=lambda path: path.stem)
def test_an_old_catalogue_is_brought_up_to_date(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(sample.read_text())
    database = SqliteDatabase(path)
    assert differences(database) == []
    assert database.problems() == []
    assert len(database.identity) == 32
    gallery = Galleries(database).get("missing")
    assert gallery.spec.writers == {"agency", "bureau"}
    units = Units(database).live(gallery)
    assert [unit.placement.count for unit in units] == [3, 5]
    assert [unit.added_version for unit in units] == [1, 2]
    live = Templates(database).page(gallery, TemplateFilter(), (-1, -1), 100)
    assert [template.slot for template in live] == [0, 8, 16, 64, 65, 67, 68]
    pages = list(Templates(database).changes(gallery, 0, 100))
    labels = {change.sealed_label for page in pages for change in page.templates}
    assert {b"", b"label 0/0", b"label 1/4"} <= labels
    assert b"label 1/2" not in path.read_bytes()
    database.close()


def test_a_catalogue_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    SqliteDatabase(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Damaged, match="newer version"):
        SqliteDatabase(path)
