"""Which states of a gallery were named to others, and which archives hold it.

Both outlive what they speak of: a search result names a version and its root, and whoever looks at
it later finds them here; an archive goes on holding a template that is erased afterwards.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from underseal_core.amendment import Amendment
from underseal_core.errors import Damaged
from underseal_core.log_entries import decode_entry
from underseal_server.store.database import Database
from underseal_server.store.records import Archive, Gallery, Snapshot, View
from underseal_server.store.schema import amendments, archives, snapshots, templates, units

KEPT: Final = 1 << 16
"""Snapshots of a gallery: some 10 MB of catalogue, and two years of a new one every quarter of an
hour. Only versions that were searched or described get a row, however many templates come."""


_NEVER: Final = 1 << 63
_CHUNK: Final = 500
"""Values in one SQL list; far below every database's limit."""


class Snapshots:
    """The table of named snapshots."""

    def __init__(self, database: Database, kept: int = KEPT) -> None:
        self._database = database
        self._kept = kept

    def note(self, gallery: Gallery, view: View, moment: str) -> None:
        """Keep what a version's root is; beyond the bound the oldest is forgotten.

        Raises
        ------
        Damaged
            The version had another root before: catalogue or blocks were changed since.
        """
        root = self.root(gallery, view.version)
        if root is None:
            with self._database.writing() as connection:
                connection.execute(snapshots.insert().values(_row(gallery, view, moment)))
                connection.execute(snapshots.delete().where(*self._beyond(gallery)))
        elif root != view.root:
            raise Damaged(
                f"gallery {gallery.name} is not what it was at version {view.version}",
                hint="the operator runs: underseal-server check --deep",
            )

    def root(self, gallery: Gallery, version: int) -> str | None:
        """Return the hex root that a version was named with, if it is known."""
        this = (snapshots.c.gallery_id == gallery.id, snapshots.c.version == version)
        with self._database.reading() as connection:
            return connection.scalar(sa.select(snapshots.c.root).where(*this))

    def all(self, gallery: Gallery) -> Generator[Snapshot, None, None]:
        """Yield the known snapshots, oldest first."""
        query = sa.select(snapshots).where(snapshots.c.gallery_id == gallery.id)
        with self._database.reading() as connection:
            paged = connection.execution_options(yield_per=1000)
            for row in paged.execute(query.order_by(snapshots.c.version)):
                yield Snapshot(row.version, row.root, row.templates, row.named_at)

    def _beyond(self, gallery: Gallery) -> tuple[sa.ColumnElement[bool], ...]:
        mine = snapshots.c.gallery_id == gallery.id
        newest = sa.select(snapshots.c.version).where(mine)
        newest = newest.order_by(snapshots.c.version.desc()).offset(self._kept).limit(1)
        return mine, snapshots.c.version <= newest.scalar_subquery()


class Archives:
    """The table of archives, of galleries that were deleted since too."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, gallery: Gallery, archive: Archive) -> None:
        """Keep that an archive holds the gallery; the same one again changes nothing."""
        this = (archives.c.gallery_id == gallery.id, archives.c.archive_id == archive.archive_id)
        values = {
            "gallery_id": gallery.id,
            "archive_id": archive.archive_id,
            "gallery": gallery.name,
            "version": archive.version,
            "root": archive.root,
            "sha256": archive.sha256,
            "exported_at": archive.exported_at,
        }
        with self._database.writing() as connection:
            connection.execute(archives.delete().where(*this))
            connection.execute(archives.insert().values(values))

    def forget(self, gallery: Gallery, archive_id: str) -> None:
        """Take a note back: the archive was not made."""
        this = (archives.c.gallery_id == gallery.id, archives.c.archive_id == archive_id)
        with self._database.writing() as connection:
            connection.execute(archives.delete().where(*this))

    def all(self, name: str) -> Sequence[Archive]:
        """Return the archives of the galleries of this name, oldest first."""
        return self._select(archives.c.gallery == name)

    def holding(self, gallery: Gallery, template_ids: Sequence[bytes]) -> Sequence[Archive]:
        """Return the archives with ciphertexts that one of these templates is in.

        A removed template is in its unit's until the unit is removed, or auditors have erased it.
        """
        spans: set[tuple[int, int]] = set()
        for start in range(0, len(template_ids), _CHUNK):
            some = templates.c.template_id.in_(template_ids[start : start + _CHUNK])
            with self._database.reading() as connection:
                found = connection.execute(_HELD.where(templates.c.gallery_id == gallery.id, some))
                spans.update(_span(row) for row in found)
        mine = self._select(archives.c.gallery_id == gallery.id)
        return [one for one in mine if any(first <= one.version < end for first, end in spans)]

    def _select(self, *where: sa.ColumnElement[bool]) -> list[Archive]:
        query = sa.select(archives).where(*where)
        query = query.order_by(archives.c.exported_at, archives.c.version, archives.c.archive_id)
        with self._database.reading() as connection:
            return [
                Archive(row.archive_id, row.version, row.root, row.sha256, row.exported_at)
                for row in connection.execute(query)
            ]


def _row(gallery: Gallery, view: View, moment: str) -> dict[str, object]:
    return {
        "gallery_id": gallery.id,
        "version": view.version,
        "root": view.root,
        "templates": view.templates,
        "named_at": moment,
    }


_HELD: Final[sa.Select[Any]] = sa.select(
    templates.c.slot,
    units.c.first_slot,
    units.c.step,
    units.c.added_version,
    units.c.removed_version,
    amendments.c.entry,
    amendments.c.version,
).select_from(
    templates.join(units, templates.c.unit_id == units.c.id).outerjoin(
        amendments, amendments.c.unit_id == units.c.id
    )
)


def _span(row: sa.Row[Any]) -> tuple[int, int]:
    """Return the first version with a template's ciphertexts, and the first one without."""
    if not row.added_version:
        return _NEVER, _NEVER
    end = row.removed_version or _NEVER
    if row.entry is not None:
        erased = Amendment.parse(decode_entry(row.entry).payload).redaction().erased
        if (row.slot - row.first_slot) // row.step in erased:
            end = min(end, row.version)
    return row.added_version, end
