"""Catalogues of earlier versions of the server, brought up to date with all that is in them.

``tests/assets/catalogues`` holds a dump of each: 0001 and 0003 as the server of their time left
them, 0008 and later as ``tests/catalogue_sample.py`` filled them with the code of their time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from tests.catalogue_sample import (
    EPOCHS,
    KEPT_UNTIL,
    NAME,
    SAMPLES,
    UNITS,
    digest,
    new_unit,
    template,
)
from tests.postgres_fixtures import Cluster
from tests.unit.server.test_migrations import differences
from underseal_core.gallery.unit import Placement
from underseal_core.provenance import EnrolReceipt
from underseal_core.signing import Identity
from underseal_server.store.arrivals import Arrivals
from underseal_server.store.database import MIGRATIONS, Database
from underseal_server.store.erasures import Erasures
from underseal_server.store.galleries import Galleries
from underseal_server.store.history import Archives, Snapshots
from underseal_server.store.labels import Labels
from underseal_server.store.postgresql import PostgresDatabase
from underseal_server.store.records import GallerySpec, Snapshot, StoredUnit, TemplateFilter
from underseal_server.store.rotations import Move, Rotations
from underseal_server.store.sqlite import SqliteDatabase
from underseal_server.store.templates import Templates
from underseal_server.store.units import Units

Content = dict[str, list[dict[str, Any]]]
"""Rows by table, in the order of the primary key."""
EARLY, LATE = ("0001", "0003"), ("0008", "0009", "0010", "0011", "0012")
KINDS = [*(f"sqlite/{n}" for n in (*EARLY, *LATE)), *(f"postgresql/{n}" for n in LATE)]
DROPPED = {"units": {"receipt_sha256"}, "templates": {"added_version"}}
"""Columns that a later revision has no more: the first is a hash of what is beside it, the second
what the unit's row says."""
ERASING, RELABELLING = "0009", "0011"
"""From which revision on."""


@pytest.fixture
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Callable[[], Database]]:
    """The URL of a sample's database, for SQLAlchemy, and what opens it as the server does."""
    kind, revision = request.param.split("/")
    dump = (SAMPLES / kind / f"{revision}.sql").read_text()
    if kind == "sqlite":
        path = tmp_path / "catalogue.sqlite"
        with sqlite3.connect(path) as connection:
            connection.executescript(dump)
        connection.close()
        return f"sqlite:///{path}", lambda: SqliteDatabase(path)
    cluster: Cluster = request.getfixturevalue("postgres")
    url = cluster.create()
    with cluster.connect(str(sa.make_url(url).database)) as admin:
        admin.execute(dump.encode())
    return url.replace("postgresql:", "postgresql+psycopg:"), lambda: PostgresDatabase(url)


def content(url: str) -> Content:
    """Read everything, past the server's own code."""
    engine = sa.create_engine(url)
    tables = sa.MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        found = {
            name: [{**row} for row in connection.execute(_ordered(table)).mappings()]
            for name, table in tables.tables.items()
        }
    engine.dispose()
    return found


def _ordered(table: sa.Table) -> sa.Select[Any]:
    return sa.select(table).order_by(*table.primary_key)


def test_every_revision_has_a_sample() -> None:
    """Who writes a migration keeps a sample of the catalogue after it: tests/catalogue_sample.py"""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    wanted = {one for one in known if one >= min(LATE)}
    for kind in ("sqlite", "postgresql"):
        assert {path.stem for path in (SAMPLES / kind).glob("*.sql")} >= wanted
    assert wanted == set(LATE)


@pytest.mark.parametrize("sample", KINDS, indirect=True)
def test_every_row_stays(sample: tuple[str, Callable[[], Database]]) -> None:
    url, open_it = sample
    before = content(url)
    database = open_it()
    assert differences(database) == []
    assert database.problems() == []
    database.close()
    after = content(url)
    for table in before.keys() - {"alembic_version", "catalogue"}:
        assert len(after[table]) == len(before[table])
        for old, new in zip(before[table], after[table], strict=True):
            assert old.keys() - new.keys() <= DROPPED.get(table, set())
            assert {name: new[name] for name in old.keys() & new.keys()} == {
                name: value for name, value in old.items() if name in new
            }
            assert all(new[name] in (0, "", b"") for name in new.keys() - old.keys())
    for table in after.keys() - before.keys() - {"catalogue", "blocks"}:
        assert after[table] == []
    if before.get("catalogue"):
        assert [row["identity"] for row in after["catalogue"]] == [
            row["identity"] for row in before["catalogue"]
        ]


@pytest.mark.parametrize("sample", [f"sqlite/{n}" for n in EARLY], indirect=True)
def test_the_first_catalogues_say_what_they_said(
    sample: tuple[str, Callable[[], Database]],
) -> None:
    """A row of three, columns of five of which one is removed, and a removed row of one."""
    url, open_it = sample
    database = open_it()
    assert len(database.identity) == 32
    gallery = Galleries(database).get(NAME)
    assert gallery.spec.writers == {"agency", "bureau"}
    units = Units(database).live(gallery)
    assert [unit.placement.count for unit in units] == [3, 5]
    assert [unit.added_version for unit in units] == [1, 2]
    live = Templates(database).page(gallery, TemplateFilter(), (-1, -1), 100)
    assert [one.slot for one in live] == [0, 8, 16, 64, 65, 67, 68]
    pages = list(Templates(database).changes(gallery, 0, 100))
    labels = {change.sealed_label for page in pages for change in page.templates}
    assert {b"", b"label 0/0", b"label 1/4"} <= labels
    assert b"label 1/2" not in Path(url.removeprefix("sqlite:///")).read_bytes()
    database.close()


@pytest.mark.parametrize("sample", [k for k in KINDS if k.split("/")[1] in LATE], indirect=True)
def test_later_catalogues_say_what_they_said_and_go_on(
    sample: tuple[str, Callable[[], Database]], request: pytest.FixtureRequest
) -> None:
    revision = request.node.callspec.params["sample"].split("/")[1]
    database = sample[1]()
    check_units(database, revision)
    check_feed(database, revision)
    check_history(database, revision)
    check_going_on(database)
    database.close()


def check_units(database: Database, revision: str) -> None:
    """Look at galleries, units and templates."""
    gallery = Galleries(database).get(NAME)
    assert (gallery.spec.max_per_subject, gallery.spec.max_keep_days) == (8, 400)
    assert gallery.spec.pin.key_epoch == EPOCHS[1]
    row, columns = Units(database).live(gallery)
    assert [row.placement, columns.placement] == [UNITS[0][1], UNITS[1][1]]
    assert row.sha256 == digest("moved", row.id)
    erased = revision >= ERASING
    assert columns.sha256 == (digest("amended") if erased else digest("moved", columns.id))
    assert columns.erased == ((2,) if erased else ())
    (pending,) = Units(database).pending(gallery)
    assert pending.placement == UNITS[3][1]
    statistics = Templates(database).statistics(gallery)
    assert (statistics.pending, statistics.active, statistics.removed) == (2, 7, 2)
    assert statistics.next_keep_until == KEPT_UNTIL
    late = Templates(database).units_past_their_time(gallery, KEPT_UNTIL)
    assert late == {pending.id: [template(3, place).template_id for place in range(2)]}


def check_feed(database: Database, revision: str) -> None:
    """Look at what auditors are told from the beginning on."""
    gallery = Galleries(database).get(NAME)
    pages = list(Templates(database).changes(gallery, 0, 100))
    assert {page.version for page in pages} == {gallery.version}
    units = [unit for page in pages for unit in page.units]
    assert [unit.token for unit in units] == [digest("token", n)[:16] for n in range(3)]
    for unit in units:
        if revision >= RELABELLING:  # receipts of before have no revision, and auditors refuse them
            receipt = EnrolReceipt.open(unit.receipt, unit.receipt.signatures[0].public_key)
            assert receipt.token == unit.token.hex()
    relabelled = revision >= RELABELLING
    entries = {one.template_id: one for page in pages for one in page.templates}
    wanted = {
        template(number, place).template_id: template(number, place).sealed_label
        for number, (_, placement, _) in enumerate(UNITS[:3])
        for place in range(placement.count)
    }
    wanted[template(0, 1).template_id] = b"another label" if relabelled else b"label 0/1"
    gone = {template(1, 2).template_id, template(2, 0).template_id}
    wanted |= dict.fromkeys(gone, b"")
    assert {one: entry.sealed_label for one, entry in entries.items()} == wanted
    assert {one for one, entry in entries.items() if entry.removed_version} == gone
    amended = [one.token for page in pages for one in page.amended]
    assert amended == ([digest("token", 1)[:16]] if revision >= ERASING else [])


def check_history(database: Database, revision: str) -> None:
    """Look at snapshots, archives, key epochs and removals."""
    gallery = Galleries(database).get(NAME)
    root = digest("root").hex()
    named = Snapshot(gallery.version, root, 7, "2026-01-06T00:00:00Z")
    assert list(Snapshots(database).all(gallery)) == [named]
    (archive,) = Archives(database).all(NAME)
    assert (archive.archive_id, archive.root) == ("cd" * 16, root)
    holding = Archives(database).holding
    assert list(holding(gallery, [template(0, 0).template_id])) == [archive]
    kept = revision < ERASING  # nobody erased it: the unit's ciphertexts hold it still
    assert list(holding(gallery, [template(1, 2).template_id])) == [archive] * kept
    assert list(holding(gallery, [template(2, 0).template_id])) == []
    stored = Units(database)
    assert Rotations(database, stored).left(gallery) == {EPOCHS[0]: "2026-01-04T00:00:00Z"}
    coming = Move(EPOCHS[2], "0b" * 32)
    (there,) = Rotations(database, stored).live(gallery, coming, 0)
    assert there.sha256 == digest("on its way")
    removed = Erasures(database).page(gallery, b"", 0, 100)
    assert [(one.place, one.moment) for one in removed] == [
        (2, "2026-01-05T00:00:00Z" if revision >= "0012" else ""),
        (0, "2026-01-05T00:00:00Z" if revision >= "0012" else ""),
    ]
    leaves = Labels(database).unit(there.id).leaves
    assert [leaf.template_id for leaf in leaves] == [template(0, n).template_id for n in range(3)]


def check_going_on(database: Database) -> None:
    """Enrol; numbers never name two things, nor do tokens and template ids."""
    galleries, arrivals = Galleries(database), Arrivals(database)
    gallery = galleries.get(NAME)
    used = {unit.id for unit in Units(database).by_ids(range(1, 5))}
    assert len(used) == 4
    again = new_unit(3, Identity.generate())
    (refused,) = arrivals.add(gallery, [(again, Placement(1, 16, 8, 2))], KEPT_UNTIL)
    assert not isinstance(refused, StoredUnit)
    galleries.delete(gallery)
    spec = GallerySpec("next", gallery.spec.pin, "agency", frozenset({"agency"}), 8)
    created = galleries.create(spec, KEPT_UNTIL)
    assert created.id > gallery.id
    (stored,) = arrivals.add(created, [(again, Placement(0, 0, 8, 2))], KEPT_UNTIL)
    assert isinstance(stored, StoredUnit)
    assert stored.id > max(used)
