"""The catalogue in a real PostgreSQL server: locks, lost connections, failures, secrets."""

from __future__ import annotations

import logging
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from tests.postgres_fixtures import Cluster
from tests.postgres_proxy import Proxy, proxied
from underseal_core.errors import Busy, Damaged, InvalidInput, StorageFull, UndersealError
from underseal_server.settings import Settings, load_settings
from underseal_server.store import postgresql
from underseal_server.store.database import Unsettled
from underseal_server.store.postgresql import PostgresDatabase
from underseal_server.store.schema import requests, templates
from underseal_server.store.store import Store

SECRET = "s3cret-of-the-operator"


@pytest.fixture
def url(postgres: Cluster) -> str:
    """An empty database."""
    return postgres.create()


@pytest.fixture
def database(url: str) -> Iterator[PostgresDatabase]:
    opened = PostgresDatabase(url)
    yield opened
    opened.close()


@pytest.fixture
def proxy(postgres: Cluster) -> Iterator[Proxy]:
    """A line that breaks on demand; the folder's name must be short enough for a socket's."""
    folder = Path(tempfile.mkdtemp(prefix="underseal-line-"))
    with proxied(postgres.folder / ".s.PGSQL.5432", folder) as proxy:
        yield proxy
    shutil.rmtree(folder)


@pytest.fixture
def over_line(postgres: Cluster, proxy: Proxy, url: str) -> Iterator[PostgresDatabase]:
    opened = PostgresDatabase(url.replace(str(postgres.folder), str(proxy.folder)))
    yield opened
    opened.close()


def insert(database: PostgresDatabase, name: str) -> None:
    with database.writing() as connection:
        row = {"request_id": name, "client": "b", "expires_at": "c"}
        connection.execute(requests.insert().values(row))


def names(database: PostgresDatabase) -> set[str]:
    with database.reading() as connection:
        return set(connection.scalars(sa.select(requests.c.request_id)))


def drop_connections(postgres: Cluster, url: str) -> None:
    """End every session of a database, as a restart or a network does."""
    name = sa.make_url(url).database
    with postgres.connect("postgres") as admin:
        query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
        admin.execute(query, (name,))


def test_a_second_server_is_refused_until_the_first_has_gone(
    database: PostgresDatabase, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "_WAIT", "100ms")
    with pytest.raises(InvalidInput, match="used by another server"):
        PostgresDatabase(url)
    insert(database, "a")
    database.close()
    second = PostgresDatabase(url)
    assert second.identity == database.identity
    assert names(second) == {"a"}
    second.close()


def test_a_lost_connection_is_made_again_where_nothing_was_begun(
    postgres: Cluster, database: PostgresDatabase, url: str
) -> None:
    insert(database, "a")
    drop_connections(postgres, url)
    insert(database, "b")
    drop_connections(postgres, url)
    assert names(database) == {"a", "b"}


def test_a_server_that_lost_its_lock_to_another_one_does_nothing_any_more(
    postgres: Cluster, database: PostgresDatabase, url: str
) -> None:
    """Its memory is of before: neither may it write, nor answer from the newer rows."""
    insert(database, "a")
    drop_connections(postgres, url)
    second = PostgresDatabase(url)
    for attempt in (lambda: names(database), lambda: insert(database, "late")):
        with pytest.raises((Damaged, InvalidInput), match="another server"):
            attempt()
    second.close()
    for attempt in (lambda: names(database), lambda: insert(database, "late")):
        with pytest.raises(Damaged, match="another server has taken over"):
            attempt()
    third = PostgresDatabase(url)
    assert names(third) == {"a"}
    third.close()


def test_a_connection_lost_within_a_change_undoes_it(
    postgres: Cluster, database: PostgresDatabase, url: str
) -> None:
    with pytest.raises(Busy, match="nothing was changed"), database.writing() as connection:
        row = {"request_id": "a", "client": "b", "expires_at": "c"}
        connection.execute(requests.insert().values(row))
        drop_connections(postgres, url)
        connection.execute(sa.select(requests))
    insert(database, "b")
    assert names(database) == {"b"}


@pytest.mark.parametrize(("when", "kept"), [("before", {"a"}), ("after", {"a", "b"})])
def test_a_connection_lost_in_a_commit_is_settled_by_what_the_database_says(
    over_line: PostgresDatabase, proxy: Proxy, when: str, kept: set[str]
) -> None:
    insert(over_line, "a")
    proxy.breaks = when
    if when == "before":
        with pytest.raises(Busy, match="nothing was changed"):
            insert(over_line, "b")
    else:
        insert(over_line, "b")
    assert proxy.broken == 1
    assert names(over_line) == kept


def test_a_commit_that_nobody_can_ask_about_is_called_unsettled(
    over_line: PostgresDatabase, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "SETTLE_SECONDS", 0.3)
    proxy.breaks, proxy.cut_off = "after", True
    with pytest.raises(Unsettled, match="went away while a change was stored"):
        insert(over_line, "a")
    with pytest.raises(Busy, match="cannot be reached"):
        names(over_line)
    proxy.cut_off = False
    assert names(over_line) == {"a"}


def test_a_database_that_is_away_is_said_and_used_again_when_it_is_back(
    postgres: Cluster, database: PostgresDatabase
) -> None:
    insert(database, "a")
    postgres.stop()
    for attempt in (lambda: names(database), lambda: insert(database, "b")):
        with pytest.raises(Busy, match="cannot be reached; nothing was changed") as away:
            attempt()
        assert "is it running" in away.value.hint
    postgres.start()
    assert names(database) == {"a"}
    insert(database, "b")
    assert names(database) == {"a", "b"}


def test_writers_come_one_after_another_and_see_what_was_before(
    database: PostgresDatabase,
) -> None:
    def add(_: int) -> int:
        with database.writing() as connection:
            before = int(connection.scalar(sa.select(sa.func.count()).select_from(requests)) or 0)
            row = {"request_id": str(before), "client": "b", "expires_at": "c"}
            connection.execute(requests.insert().values(row))
            return before

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(add, range(40))) == list(range(40))


def test_a_reader_sees_one_state(database: PostgresDatabase) -> None:
    count = sa.select(sa.func.count()).select_from(requests)
    with database.reading() as connection:
        assert connection.scalar(count) == 0
        insert(database, "a")
        assert connection.scalar(count) == 0
    assert names(database) == {"a"}


def test_a_commit_is_durable_whatever_the_database_is_set_to(postgres: Cluster, url: str) -> None:
    name = sa.make_url(url).database
    with postgres.connect("postgres") as admin:
        admin.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off'.encode())
    database = PostgresDatabase(url)
    with database.writing() as connection:
        assert connection.scalar(sa.text("SHOW synchronous_commit")) == "on"
    database.close()


@pytest.mark.parametrize(
    ("condition", "kind"),
    [
        ("disk_full", StorageFull),
        ("too_many_connections", Busy),
        ("read_only_sql_transaction", InvalidInput),
        ("data_corrupted", Damaged),
    ],
)
def test_each_failure_of_the_database_gets_its_class(
    database: PostgresDatabase, condition: str, kind: type[UndersealError]
) -> None:
    insert(database, "a")
    raised = f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{condition}'; END $$"
    with pytest.raises(kind), database.writing() as connection:
        connection.execute(requests.delete())
        connection.exec_driver_sql(raised)
    assert names(database) == {"a"}


def test_it_looks_at_itself(postgres: Cluster, database: PostgresDatabase, url: str) -> None:
    assert database.problems() == []
    with postgres.connect(str(sa.make_url(url).database)) as admin:
        admin.execute("SET session_replication_role = replica")
        admin.execute("INSERT INTO writers VALUES (7, 'x')")
    assert database.problems() == ["catalogue: a row of writers refers to nothing"]


def test_a_purge_lets_the_database_use_the_space_again(
    postgres: Cluster, database: PostgresDatabase, url: str
) -> None:
    with postgres.connect(str(sa.make_url(url).database)) as admin:
        counted = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'templates'"
        counts = []
        for removes in (False, False, True):
            if removes:
                database.forgotten()
            database.purge()
            admin.execute("SELECT pg_stat_clear_snapshot()")
            counts.append(admin.execute(counted).fetchone())
        assert counts == [(1,), (1,), (2,)], "once after a start: it may follow a crash"


LABEL = b"sealed:" + bytes(range(200))
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM catalogue"
VACUUM = "BEGIN; LOCK TABLE templates IN SHARE UPDATE EXCLUSIVE MODE"


def with_label(database: PostgresDatabase) -> None:
    """Store a template, without the rows that it would belong to."""
    row = {"gallery_id": 1, "unit_id": 1, "template_id": bytes(16), "subject_id": bytes(16)}
    row |= {"block": 0, "slot": 0, "label_sha256": bytes(32), "removed_version": 0}
    with database.writing() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.execute(templates.insert().values(**row, sealed_label=LABEL))


def kept(postgres: Cluster, url: str) -> int:
    """How many rows in the table's file have the label, dead ones too."""
    return sum(LABEL in row for row in postgres.rows(url, "templates"))


@pytest.mark.parametrize("holding", [SNAPSHOT, VACUUM], ids=["snapshot", "vacuum"])
def test_a_purge_that_left_something_says_so(
    postgres: Cluster,
    database: PostgresDatabase,
    url: str,
    holding: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No receipt of erasure is signed while anybody may see the label, or it could not go."""
    monkeypatch.setattr(postgresql, "PURGE_PAUSES", ())
    monkeypatch.setattr(postgresql, "_WAIT", "50ms")
    with_label(database)
    with postgres.connect(str(sa.make_url(url).database)) as other:
        other.execute(holding.encode())
        with database.writing() as connection:
            connection.execute(templates.update().values(sealed_label=b""))
        database.forgotten()
        for _ in range(2):
            with pytest.raises(Busy, match="still in the catalogue"):
                database.purge()
            assert kept(postgres, url) == 1
    database.purge()
    assert kept(postgres, url) == 0


def test_a_purge_waits_for_a_reader_that_ends(
    postgres: Cluster, database: PostgresDatabase, url: str
) -> None:
    with_label(database)
    with postgres.connect(str(sa.make_url(url).database)) as other:
        other.execute(SNAPSHOT.encode())
        with database.writing() as connection:
            connection.execute(templates.update().values(sealed_label=b""))
        database.forgotten()
        with ThreadPoolExecutor(1) as pool:
            purge = pool.submit(database.purge)
            other.execute("COMMIT")
            purge.result()
    assert kept(postgres, url) == 0


def test_numbers_of_transactions_go_round(database: PostgresDatabase) -> None:
    """The horizon has 32 bits; a purge after the first round sees that it is beyond, or not."""
    begun = database._newest
    database._newest = begun + (1 << 32)
    database.forgotten()
    database.purge()
    assert not database._vacuum(begun + (1 << 32) + 1000)


@pytest.mark.parametrize(
    "given",
    [
        f"postgresql://u:{SECRET}@127.0.0.1:1/x",
        f"postgresql://u:{SECRET}@x@127.0.0.1:1/x",
        f"postgresql://u:{SECRET}@/x?host=/nowhere",
        f"postgresql://u:{SECRET}@127.0.0.1:1/x?sslmode={SECRET}",
        f"postgresql://u:{SECRET}@127.0.0.1:port/x",
        f"mysql://u:{SECRET}@127.0.0.1/x",
        SECRET,
    ],
)
def test_no_error_settings_or_log_shows_the_password(
    given: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "server.toml").write_text(f'catalogue = "{given}"')
    settings = load_settings(tmp_path / "server.toml")
    assert settings.catalogue_url() == given
    with (
        caplog.at_level(logging.DEBUG),
        structlog.testing.capture_logs() as logs,
        pytest.raises(UndersealError) as failed,
    ):
        Store(tmp_path / "data", catalogue=settings.catalogue_url())
    text = "".join(traceback.format_exception(failed.value))
    said = [repr(settings), str(settings.model_dump()), text, repr(logs), caplog.text]
    assert not any(SECRET in part for part in [*said, failed.value.hint])


def test_the_password_of_an_open_catalogue_is_in_no_repr(postgres: Cluster, url: str) -> None:
    database = PostgresDatabase(url.replace("tester@", f"tester:{SECRET}@"))
    with database.writing() as connection:
        parts = [database, database._engine, connection, connection.connection.dbapi_connection]
        assert not any(SECRET in repr(part) for part in [*parts, vars(database)])
    database.close()


def test_the_url_comes_from_setting_environment_or_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings().catalogue_url() == ""
    file = tmp_path / "url"
    file.write_text("postgresql://a/b\n")
    assert load_settings(None, catalogue_file=file).catalogue_url() == "postgresql://a/b"
    monkeypatch.setenv("UNDERSEAL_SERVER_CATALOGUE", "postgresql://c/d")
    assert load_settings(None).catalogue_url() == "postgresql://c/d"
    with pytest.raises(InvalidInput, match="not both"):
        load_settings(None, catalogue_file=file).catalogue_url()
    monkeypatch.delenv("UNDERSEAL_SERVER_CATALOGUE")
    with pytest.raises(InvalidInput, match="cannot read"):
        load_settings(None, catalogue_file=tmp_path / "none").catalogue_url()
