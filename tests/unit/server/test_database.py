from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from underseal_core.errors import Damaged, StorageFull
from underseal_server.store.schema import requests
from underseal_server.store.sqlite import SqliteDatabase


def test_opening_again_migrates_nothing_and_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    first = SqliteDatabase(path)
    with first.writing() as connection:
        row = {"request_id": "a", "client": "b", "expires_at": "c"}
        connection.execute(requests.insert().values(row))
    first.close()
    second = SqliteDatabase(path)
    with second.reading() as connection:
        assert connection.scalar(sa.select(requests.c.client)) == "b"
    second.close()


def test_a_commit_is_synced_to_the_disk(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "catalogue.sqlite")
    with database.writing() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA secure_delete").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    database.close()


def test_a_full_disk_is_reported_and_nothing_is_changed(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "catalogue.sqlite")
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


def test_a_connection_that_may_only_read_is_replaced_before_a_change(tmp_path: Path) -> None:
    """SQLite opens one while the disk is read-only, and it stays so when the disk is well again."""
    path = tmp_path / "catalogue.sqlite"
    database = SqliteDatabase(path)

    def only_reads(*_: object) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False)

    database._engine.dispose()
    sa.event.listen(database._engine, "do_connect", only_reads)
    with database.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(requests)) == 0
    sa.event.remove(database._engine, "do_connect", only_reads)
    with database.writing() as connection:
        row = {"request_id": "a", "client": "b", "expires_at": "c"}
        connection.execute(requests.insert().values(row))
    with database.reading() as connection:
        assert connection.scalar(sa.select(requests.c.client)) == "b"
    database.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(Damaged):
        SqliteDatabase(path)


def removed(database: SqliteDatabase, mark: str) -> None:
    """Write a client's name, and remove it again."""
    with database.writing() as connection:
        row = {"request_id": "a", "client": mark, "expires_at": "c"}
        connection.execute(requests.insert().values(row))
    with database.writing() as connection:
        connection.execute(requests.delete())
    database.forgotten()


def test_what_was_removed_is_in_no_file_after_a_purge(tmp_path: Path) -> None:
    path, mark = tmp_path / "catalogue.sqlite", "m" * 60
    database = SqliteDatabase(path)
    removed(database, mark)
    assert mark.encode() in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    database.purge()
    assert mark.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    database.close()


def test_purges_at_the_same_time_wait_for_each_other(tmp_path: Path) -> None:
    """As saving and a question about erasures do; the first waits for a reader."""
    database = SqliteDatabase(tmp_path / "catalogue.sqlite")
    removed(database, "m" * 60)
    with ThreadPoolExecutor(2) as pool:
        with database.reading() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(requests)) == 0
            purges = [pool.submit(database.purge) for _ in range(2)]
            time.sleep(0.3)
            assert not any(purge.done() for purge in purges)
        for purge in purges:
            purge.result(timeout=30)
    database.close()


def test_what_is_removed_during_a_purge_is_left_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, mark = SqliteDatabase(tmp_path / "catalogue.sqlite"), "m" * 60
    removed(database, "first")
    whole = database._purge

    def purge() -> None:
        whole()
        removed(database, mark)

    with monkeypatch.context() as patch:
        patch.setattr(database, "_purge", purge)
        database.purge()
    database.purge()
    assert mark.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    database.close()


def test_a_schema_that_is_no_text_any_more_is_damage(tmp_path: Path) -> None:
    """SQLite's message quotes it, which Python's driver then cannot decode."""
    path = tmp_path / "catalogue.sqlite"
    SqliteDatabase(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        damaged = "UPDATE sqlite_master SET sql = CAST(x'cc28' || sql AS TEXT) WHERE name = ?"
        connection.execute(damaged, ("units",))
    with pytest.raises(Damaged, match="catalogue failed"):
        SqliteDatabase(path)
