"""Rows of galleries and of who may write to them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from pydantic import ValidationError

from underseal_core.errors import Conflict, Damaged, NotFound
from underseal_core.statements import Pin
from underseal_server.store.database import Database
from underseal_server.store.records import Gallery, GallerySpec
from underseal_server.store.schema import galleries, writers


class Galleries:
    """The table of galleries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, spec: GallerySpec, created_at: str) -> Gallery:
        """Add a gallery; the same one again gives the stored one.

        Raises
        ------
        Conflict
            The name is taken by a different gallery.
        """
        with self._database.writing() as connection:
            found = _select(connection, galleries.c.name == spec.name, limit=1)
            if not found:
                return _insert(connection, spec, created_at)
        if found[0].spec != spec:
            raise Conflict(
                f"gallery {spec.name} exists with other settings", hint="choose another name"
            )
        return found[0]

    def get(self, name: str) -> Gallery:
        """Return a gallery.

        Raises
        ------
        NotFound
            There is none of this name.
        """
        with self._database.reading() as connection:
            found = _select(connection, galleries.c.name == name, limit=1)
        if not found:
            raise NotFound(f"there is no gallery {name}", hint="list the galleries")
        return found[0]

    def page(self, after: str, limit: int) -> Sequence[Gallery]:
        """Return up to ``limit`` galleries in order of name, from the first after ``after``."""
        with self._database.reading() as connection:
            return _select(connection, galleries.c.name > after, limit=limit)

    def delete(self, gallery: Gallery) -> None:
        """Remove a gallery with everything in it."""
        with self._database.writing() as connection:
            connection.execute(galleries.delete().where(galleries.c.id == gallery.id))
        self._database.forgotten()

    def ids(self) -> frozenset[int]:
        """Return the ids of all galleries."""
        with self._database.reading() as connection:
            return frozenset(connection.scalars(sa.select(galleries.c.id)))


def _insert(connection: sa.Connection, spec: GallerySpec, created_at: str) -> Gallery:
    result = connection.execute(
        galleries.insert().values(
            name=spec.name,
            model_id=spec.pin.model_id,
            model_dimension=spec.pin.model_dimension,
            profile=spec.pin.profile,
            key_epoch=spec.pin.key_epoch,
            owner=spec.owner,
            max_per_subject=spec.max_per_subject,
            max_keep_days=spec.max_keep_days,
            version=0,
            created_at=created_at,
        )
    )
    (number,) = result.inserted_primary_key or (0,)
    rows = [{"gallery_id": number, "client": client} for client in sorted(spec.writers)]
    connection.execute(writers.insert(), rows)
    return Gallery(int(number), spec, 0, created_at)


def _select(connection: sa.Connection, where: sa.ColumnElement[bool], limit: int) -> list[Gallery]:
    query = sa.select(galleries).where(where).order_by(galleries.c.name).limit(limit)
    rows = connection.execute(query).all()
    allowed: dict[int, set[str]] = {row.id: set() for row in rows}
    members = sa.select(writers).where(writers.c.gallery_id.in_(list(allowed)))
    for member in connection.execute(members):
        allowed[member.gallery_id].add(member.client)
    return [_gallery(row, frozenset(allowed[row.id])) for row in rows]


def _gallery(row: sa.Row[tuple[object, ...]], allowed: frozenset[str]) -> Gallery:
    try:
        pin = Pin(
            model_id=row.model_id,
            model_dimension=row.model_dimension,
            profile=row.profile,
            key_epoch=row.key_epoch,
        )
    except ValidationError as error:
        raise Damaged("the catalogue is damaged: a gallery is pinned to nothing real") from error
    limits = row.max_per_subject, row.max_keep_days
    spec = GallerySpec(row.name, pin, row.owner, allowed, *limits)
    return Gallery(row.id, spec, row.version, row.created_at)
