"""A gallery's rows as a whole, on their way out to an archive and in from one.

What comes in is a gallery under a name that no caller can have, until it is complete and checked.
If the program dies before, the next start of the server deletes it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from underseal_core.errors import Conflict, Damaged
from underseal_server.store.database import Database
from underseal_server.store.digests import note_changes
from underseal_server.store.records import Gallery
from underseal_server.store.schema import (
    amendments,
    archives,
    galleries,
    rotations,
    snapshots,
    templates,
    units,
    writers,
)

Row = Mapping[str, Any]
"""Column names and values. Rows refer to no other row by its number."""

BATCH: Final = 256
_UNFINISHED: Final = "import:"
_OWNED: Final = (writers, rotations, snapshots, archives)
_OF_UNITS: Final = (templates, amendments)
_INTERNAL: Final = frozenset({"id", "gallery_id", "unit_id"})
"""Numbers that are another catalogue's."""


def is_unfinished(gallery: Gallery) -> bool:
    """Whether a gallery began to come in from an archive, and went no further."""
    return gallery.name.startswith(_UNFINISHED)


def columns_of(table: sa.Table) -> list[sa.Column[Any]]:
    """Return the columns that leave the catalogue."""
    return [column for column in table.columns if column.name not in _INTERNAL]


class Transfer:
    """Rows of whole galleries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def gallery(self, gallery: Gallery) -> Row:
        """Return the gallery's own row."""
        query = sa.select(*columns_of(galleries)).where(galleries.c.id == gallery.id)
        with self._database.reading() as connection:
            return dict(connection.execute(query).one()._mapping)

    def owned(self, gallery: Gallery) -> Iterator[tuple[str, Sequence[Row]]]:
        """Yield what belongs to the gallery but to no unit, as names of tables and their rows."""
        for table in _OWNED:
            query = sa.select(*columns_of(table)).where(table.c.gallery_id == gallery.id)
            yield from self._batches(table, query.order_by(*table.primary_key))

    def units(
        self, gallery: Gallery
    ) -> Iterator[tuple[Sequence[Row], Iterator[tuple[str, Sequence[Row]]]]]:
        """Yield batches of units, in the order of storing, each with batches of what is theirs.

        These are names of tables and their rows, which have the token of their ``unit``.
        """
        last = 0
        query = sa.select(units).where(units.c.gallery_id == gallery.id).order_by(units.c.id)
        while True:
            with self._database.reading() as connection:
                found = connection.execute(query.where(units.c.id > last).limit(BATCH)).all()
            if not found:
                return
            last = found[-1].id
            names = [column.name for column in columns_of(units)]
            rows = [{name: row._mapping[name] for name in names} for row in found]
            yield rows, self._theirs([row.id for row in found])

    def _theirs(self, numbers: Sequence[int]) -> Iterator[tuple[str, Sequence[Row]]]:
        for table in _OF_UNITS:
            join = table.join(units, table.c.unit_id == units.c.id)
            query = sa.select(*columns_of(table), units.c.token.label("unit")).select_from(join)
            query = query.where(table.c.unit_id.in_(numbers)).order_by(*table.primary_key)
            yield from self._batches(table, query)

    def _batches(
        self, table: sa.Table, query: sa.Select[Any]
    ) -> Iterator[tuple[str, Sequence[Row]]]:
        with self._database.reading() as connection:
            paged = connection.execution_options(yield_per=BATCH)
            for part in paged.execute(query).partitions(BATCH):
                yield table.name, [dict(row._mapping) for row in part]

    def begin(self, row: Row) -> str:
        """Begin a gallery from its own row, and return the name that it has until it is there.

        Raises
        ------
        Conflict
            There is a gallery of this name.
        """
        with self._database.writing() as connection:
            same = sa.select(galleries.c.id).where(galleries.c.name == row["name"])
            if connection.scalar(same) is not None:
                raise Conflict(
                    f"there is a gallery {row['name']} already",
                    hint="a gallery keeps its name, which its receipts and labels are bound to: "
                    "import it on a server without one, or delete that one first",
                )
            name = _UNFINISHED + secrets.token_hex(8)
            connection.execute(galleries.insert().values({**row, "name": name}))
            return name

    def add_owned(self, number: int, table: sa.Table, rows: Sequence[Row]) -> None:
        """Add rows that belong to the gallery, units too.

        Raises
        ------
        Damaged
            They contradict others.
        """
        self._insert(table, [{**row, "gallery_id": number} for row in rows])

    def add_of_units(self, number: int, table: sa.Table, rows: Sequence[Row]) -> None:
        """Add rows that belong to units that are there.

        Raises
        ------
        Damaged
            They contradict others, or their unit is missing.
        """
        tokens = {row["unit"] for row in rows}
        query = sa.select(units.c.token, units.c.id).where(units.c.gallery_id == number)
        with self._database.reading() as connection:
            found = connection.execute(query.where(units.c.token.in_(tokens)))
            ids = {row.token: row.id for row in found}
        if len(ids) != len(tokens):
            raise Damaged(f"the archive has {table.name} of a unit that it has not")
        known = {"gallery_id": number} if "gallery_id" in table.columns else {}
        ready = [
            {k: v for k, v in row.items() if k != "unit"} | {"unit_id": ids[row["unit"]]} | known
            for row in rows
        ]
        self._insert(table, ready)

    def note_blocks(self, gallery: Gallery, numbers: Sequence[int]) -> None:
        """Say of blocks that came in that they are of the gallery's version."""
        with self._database.writing() as connection:
            note_changes(connection, gallery, numbers, gallery.version)

    def finish(self, number: int, name: str) -> None:
        """Give the gallery its name: from here on it is there."""
        with self._database.writing() as connection:
            this = galleries.update().where(galleries.c.id == number)
            connection.execute(this.values(name=name))

    def forget_unfinished(self) -> None:
        """Delete galleries that began to come in, and went no further."""
        with self._database.writing() as connection:
            begun = galleries.c.name.startswith(_UNFINISHED)
            theirs = archives.c.gallery_id.in_(sa.select(galleries.c.id).where(begun))
            connection.execute(archives.delete().where(theirs))
            connection.execute(galleries.delete().where(begun))

    def _insert(self, table: sa.Table, rows: Sequence[Row]) -> None:
        try:
            with self._database.writing() as connection:
                connection.execute(table.insert(), rows)
        except sa.exc.IntegrityError as error:
            raise Damaged(f"the archive's {table.name} contradict each other") from error
