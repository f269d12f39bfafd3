"""What the catalogue says of every block: how many live templates, and their entries digest.

A change of a block's live templates notes the version of the change; the digest, which takes a walk
over the block's templates, is computed when a view is wanted, kept in memory, and written down at
checkpoints. It counts as long as it is of the version that last changed the block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from underseal_core.errors import NotFound
from underseal_core.snapshot import BlockEntries, block_entries
from underseal_server.store.database import Database
from underseal_server.store.records import Gallery
from underseal_server.store.schema import blocks, galleries, templates, units


@dataclass(frozen=True, slots=True)
class BlockState:
    """A block's entries; ``version`` last changed them, ``written``: the catalogue knows them."""

    version: int
    entries: BlockEntries
    written: bool


@dataclass(frozen=True, slots=True)
class CatalogueState:
    """One state of a gallery's catalogue: its version, and its blocks by number."""

    version: int
    blocks: Mapping[int, BlockState]

    def live(self) -> dict[int, BlockEntries]:
        """Return the blocks that hold a live template, ascending."""
        return {n: s.entries for n, s in sorted(self.blocks.items()) if s.entries.templates}


NOTHING_KNOWN = CatalogueState(0, {})

_WITH_UNITS = templates.join(units, templates.c.unit_id == units.c.id)


class Digests:
    """The table of blocks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, gallery: Gallery, known: CatalogueState = NOTHING_KNOWN) -> CatalogueState:
        """Return one consistent state.

        Parameters
        ----------
        gallery
            The gallery.
        known
            What was read before; blocks that have not changed since are taken from there.

        Raises
        ------
        NotFound
            The gallery was deleted.
        """
        query = sa.select(blocks).where(blocks.c.gallery_id == gallery.id)
        found = {}
        with self._database.reading() as connection:
            version = version_of(connection, gallery)
            for row in connection.execute(query).all():
                old = known.blocks.get(row.block)
                if old is None or old.version != row.changed_version:
                    old = _state(connection, gallery, row)
                found[row.block] = old
        return CatalogueState(version, found)

    def write(self, gallery: Gallery, state: CatalogueState) -> CatalogueState:
        """Write down what the catalogue does not know yet, and return the state as written.

        Raises
        ------
        StorageFull
            No room; nothing was changed.
        """
        new = {n: s for n, s in state.blocks.items() if not s.written}
        if not new:
            return state
        with self._database.writing() as connection:
            for number, one in new.items():
                same = _block(gallery, number), blocks.c.changed_version == one.version
                values = {
                    "digested_version": one.version,
                    "templates": one.entries.templates,
                    "entries_sha256": one.entries.sha256,
                }
                connection.execute(blocks.update().where(*same).values(values))
        written = {n: BlockState(s.version, s.entries, written=True) for n, s in new.items()}
        return CatalogueState(state.version, {**state.blocks, **written})

    def wrong(self, gallery: Gallery) -> list[int]:
        """Return the blocks whose written digest is not that of their live templates."""
        query = sa.select(blocks).where(blocks.c.gallery_id == gallery.id)
        wrong = []
        with self._database.reading() as connection:
            held = _held(connection, gallery)
            for row in connection.execute(query).all():
                held.discard(row.block)
                if row.digested_version != row.changed_version:
                    continue
                if _entries(connection, gallery, row.block) != BlockEntries(
                    row.templates, row.entries_sha256
                ):
                    wrong.append(int(row.block))
        return sorted([*wrong, *held])

    def reset(self, gallery: Gallery, number: int) -> None:
        """Let a block's digest be computed again when it is needed."""
        with self._database.writing() as connection:
            note_changes(connection, gallery, [number], version_of(connection, gallery))
            anew = blocks.update().where(_block(gallery, number))
            connection.execute(anew.values(digested_version=0))


def note_changes(
    connection: sa.Connection, gallery: Gallery, numbers: Iterable[int] | None, version: int
) -> None:
    """Note that the live templates of some blocks change with ``version``; ``None``: of all."""
    if numbers is None:
        mine = blocks.update().where(blocks.c.gallery_id == gallery.id)
        connection.execute(mine.values(changed_version=version))
        return
    for number in sorted(set(numbers)):
        note = blocks.update().where(_block(gallery, number)).values(changed_version=version)
        if not connection.execute(note).rowcount:
            row = {"gallery_id": gallery.id, "block": number, "changed_version": version}
            connection.execute(blocks.insert().values(row))


def _held(connection: sa.Connection, gallery: Gallery) -> set[int]:
    query = sa.select(templates.c.block).select_from(_WITH_UNITS).where(_live(gallery)).distinct()
    return set(connection.scalars(query))


def _state(
    connection: sa.Connection, gallery: Gallery, row: sa.Row[tuple[object, ...]]
) -> BlockState:
    if row.digested_version == row.changed_version:
        entries = BlockEntries(row.templates, row.entries_sha256)
        return BlockState(row.changed_version, entries, written=True)
    entries = _entries(connection, gallery, row.block)
    return BlockState(row.changed_version, entries, written=False)


def _entries(connection: sa.Connection, gallery: Gallery, block: int) -> BlockEntries:
    query = (
        sa.select(
            templates.c.slot,
            templates.c.template_id,
            templates.c.subject_id,
            units.c.sha256,
        )
        .select_from(_WITH_UNITS)
        .where(_live(gallery), templates.c.block == block)
        .order_by(templates.c.slot)
    )
    return block_entries(connection.execute(query))


def _live(gallery: Gallery) -> sa.ColumnElement[bool]:
    # Written out, not bound: only then SQLite uses the index over live templates.
    zero = sa.literal_column("0", sa.BigInteger)
    here = templates.c.gallery_id == gallery.id
    return sa.and_(here, templates.c.removed_version == zero, units.c.added_version > 0)


def _block(gallery: Gallery, number: int) -> sa.ColumnElement[bool]:
    return sa.and_(blocks.c.gallery_id == gallery.id, blocks.c.block == number)


def version_of(connection: sa.Connection, gallery: Gallery) -> int:
    """Return a gallery's version.

    Raises
    ------
    NotFound
        The gallery was deleted.
    """
    version = connection.scalar(sa.select(galleries.c.version).where(galleries.c.id == gallery.id))
    if version is None:
        raise NotFound(f"there is no gallery {gallery.name}")
    return int(version)
