"""A catalogue with something in every table, to be kept as a sample of its revision.

``python -m tests.catalogue_sample`` fills one of each kind and writes what it dumps to
``tests/assets/catalogues/KIND/REVISION.sql``; a test wants samples of the newest revision. The ones
of before were written so by the server's code of their time.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

import sqlalchemy as sa

from tests.postgres_fixtures import Cluster, programs
from underseal_core.amendment import Amendment, write_places
from underseal_core.gallery.unit import Placement, Shape
from underseal_core.provenance import Enrolled, EnrolReceipt, template_leaf
from underseal_core.signing import Envelope, Identity
from underseal_core.statements import Pin
from underseal_server.store.amendments import Amendments, SignedAmendment
from underseal_server.store.arrivals import Arrivals
from underseal_server.store.database import Database
from underseal_server.store.digests import NOTHING_KNOWN, Digests
from underseal_server.store.galleries import Galleries
from underseal_server.store.history import Archives, Snapshots
from underseal_server.store.labels import Labels
from underseal_server.store.postgresql import PostgresDatabase
from underseal_server.store.records import (
    Archive,
    Gallery,
    GallerySpec,
    NewTemplate,
    NewUnit,
    Relabelling,
    StoredUnit,
    View,
)
from underseal_server.store.requests import Requests
from underseal_server.store.rotations import Move, Rotations
from underseal_server.store.sqlite import SqliteDatabase
from underseal_server.store.units import Units

SAMPLES = Path(__file__).resolve().parent / "assets" / "catalogues"
NAME = "missing"
KEPT_UNTIL = "2027-01-01T00:00:00Z"
EPOCHS = ("01" * 32, "02" * 32, "03" * 32)
UNITS = (
    (Shape.ROW, Placement(0, 0, 8, 3), ""),
    (Shape.COLUMNS, Placement(0, 64, 1, 5), ""),
    (Shape.ROW, Placement(0, 1, 8, 1), ""),
    (Shape.ROW, Placement(1, 0, 8, 2), KEPT_UNTIL),
)
"""Shape, slots and end of each. The third template of the second one is removed, and erased where
auditors could erase; the third unit is removed; the last is PENDING."""


def moment(day: int) -> str:
    """A day of the catalogue's past."""
    return f"2026-01-{day:02}T00:00:00Z"


def pin(epoch: str) -> Pin:
    return Pin(model_id="test-model", model_dimension=8, profile="swift", key_epoch=epoch)


def digest(*parts: object) -> bytes:
    """Bytes that stand for something, 32 of them."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).digest()


def template(unit: int, place: int) -> NewTemplate:
    token = digest("template", unit, place)[:16]
    return NewTemplate(token, digest("subject", unit)[:16], f"label {unit}/{place}".encode())


def new_unit(number: int, enroller: Identity) -> NewUnit:
    """A unit with its enroller's receipt."""
    shape, placement, until = UNITS[number]
    templates = tuple(template(number, place) for place in range(placement.count))
    token, sha256 = digest("token", number)[:16], digest("unit", number)
    leaves = [
        template_leaf(t.template_id, t.subject_id, hashlib.sha256(t.sealed_label).digest())
        for t in templates
    ]
    enrolled = Enrolled(NAME, pin(EPOCHS[0]), token, shape, leaves, sha256)
    receipt = enrolled.receipt("agency", moment(1), until).sign(enroller)
    return NewUnit(token, shape, templates, "agency", sha256, 1000, receipt, until)


class Filling:
    """One database on its way to being a sample."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._units = Units(database)
        self._rotations = Rotations(database, self._units)
        self._enroller = Identity.generate()

    def fill(self) -> None:
        """Let everything happen to one gallery that leaves a row somewhere."""
        galleries = Galleries(self._database)
        writers = frozenset({"agency", "bureau"})
        gone = GallerySpec("gone", pin(EPOCHS[0]), "agency", writers, 8)
        galleries.delete(galleries.create(gone, moment(1)))
        galleries.create(GallerySpec(NAME, pin(EPOCHS[0]), "agency", writers, 8, 400), moment(1))
        gallery = galleries.get(NAME)
        self._enrol(gallery)
        self._rotate(gallery, EPOCHS[1])
        gallery = galleries.get(NAME)
        columns, single = (self._unit(gallery, number) for number in (1, 2))
        self._units.remove(gallery, columns, [template(1, 2).template_id], moment(5))
        self._units.remove(gallery, single, [template(2, 0).template_id], moment(5))
        self._amend(gallery, self._unit(gallery, 1))
        self._relabel(gallery, self._unit(gallery, 0))
        coming = Move(EPOCHS[2], "0b" * 32)
        self._rotations.add(self._unit(gallery, 0), coming, digest("on its way"))
        self._name(galleries.get(NAME))
        Requests(self._database).claim("ab" * 16, "agency", moment(9), moment(7))

    def _unit(self, gallery: Gallery, number: int) -> StoredUnit:
        found = self._units.by_token(gallery, digest("token", number)[:16])
        assert found is not None
        return found

    def _enrol(self, gallery: Gallery) -> None:
        arrivals = Arrivals(self._database)
        for number, (_, placement, _) in enumerate(UNITS):
            unit = new_unit(number, self._enroller)
            (stored,) = arrivals.add(gallery, [(unit, placement)], moment(1 + number))
            assert isinstance(stored, StoredUnit)
            if number < 3:
                arrivals.activate(gallery, [stored.id], [placement.block])

    def _rotate(self, gallery: Gallery, epoch: str) -> None:
        move = Move(epoch, "0a" * 32)
        for unit in (*self._units.live(gallery), *self._units.pending(gallery)):
            self._rotations.add(unit, move, digest("moved", unit.id))
        self._rotations.finish(gallery, move, moment(4))

    def _amend(self, gallery: Gallery, unit: StoredUnit) -> None:
        enrolled = digest("unit", 1).hex()
        statement = Amendment(
            gallery=NAME,
            pin=gallery.spec.pin,
            generation=EPOCHS[1],
            token=unit.token.hex(),
            enrolled_sha256=enrolled,
            old_sha256=unit.sha256.hex(),
            new_sha256=digest("amended").hex(),
            erased=write_places([2]),
            count=1,
            members=2,
            issued_at=moment(6),
        )
        signed = SignedAmendment(statement, statement.sign(Identity.generate()))
        Amendments(self._database).put(gallery, unit, signed)

    def _relabel(self, gallery: Gallery, unit: StoredUnit) -> None:
        labels = Labels(self._database)
        held = labels.unit(unit.id)
        new = {template(0, 1).template_id: b"another label"}
        leaves = [
            template_leaf(
                leaf.template_id,
                leaf.subject_id,
                hashlib.sha256(new[leaf.template_id]).digest()
                if leaf.template_id in new
                else leaf.label_sha256,
            )
            for leaf in held.leaves
        ]
        later = EnrolReceipt.parse(held.receipt.payload).relabelled(leaves, moment(6))
        signed: Envelope = later.sign(self._enroller)
        labels.change(gallery, Relabelling(unit.token, MappingProxyType(new), signed))

    def _name(self, gallery: Gallery) -> None:
        """Name the snapshot, export it, and write down what a view needs of the blocks."""
        root = digest("root").hex()
        view = View(gallery.version, root, 7, MappingProxyType({0: digest("tiles").hex()}))
        Snapshots(self._database).note(gallery, view, moment(6))
        archive = Archive("cd" * 16, gallery.version, root, digest("archive").hex(), moment(7))
        Archives(self._database).note(gallery, archive)
        digests = Digests(self._database)
        digests.write(gallery, digests.read(gallery, NOTHING_KNOWN))


def sqlite_dump(path: Path) -> str:
    """Return the statements that make the database again."""
    with closing(sqlite3.connect(path)) as connection:
        return "\n".join(connection.iterdump()) + "\n"


def postgres_dump(cluster: Cluster, url: str) -> str:
    """Return the same of a PostgreSQL database, without what is only psql's or the session's."""
    skipped = "--", "\\", "SET ", "SELECT pg_catalog.set_config"
    lines = cluster.dump(url).decode().splitlines()
    kept = (line for line in lines if line and not line.startswith(skipped))
    return "\n".join(line for line in kept if not line.endswith(" OWNER TO tester;")) + "\n"


def revision(database: Database) -> str:
    """Return the schema's revision."""
    with database.reading() as connection:
        return str(connection.scalar(sa.text("SELECT version_num FROM alembic_version")))


def main() -> None:
    """Write the samples of the present revision."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalogue.sqlite"
        lite = SqliteDatabase(path)
        Filling(lite).fill()
        name = f"{revision(lite)}.sql"
        lite.close()
        (SAMPLES / "sqlite" / name).write_text(sqlite_dump(path))
    found = programs()
    assert found is not None, "needs PostgreSQL's server"
    cluster = Cluster(found)
    try:
        url = cluster.create()
        big = PostgresDatabase(url)
        Filling(big).fill()
        big.close()
        (SAMPLES / "postgresql" / name).write_text(postgres_dump(cluster, url))
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
