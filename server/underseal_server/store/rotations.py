"""Rows of changes of the key epoch: what is re-encrypted so far, and which galleries moved."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from underseal_core.errors import Damaged
from underseal_server.store.database import Database
from underseal_server.store.records import Gallery, StoredUnit
from underseal_server.store.schema import galleries, reencrypted, rotations, units
from underseal_server.store.units import Units, raise_version


@dataclass(frozen=True, slots=True)
class Move:
    """From a gallery's key epoch to the next; ``switching_key``: the key's id."""

    new_epoch: str
    switching_key: str


class Rotations:
    """The tables of rotations and of re-encrypted units."""

    def __init__(self, database: Database, stored: Units) -> None:
        self._database = database
        self._units = stored

    def left(self, gallery: Gallery) -> dict[str, str]:
        """Return the key epochs that a gallery was of before, and when it left each."""
        query = sa.select(rotations).where(rotations.c.gallery_id == gallery.id)
        with self._database.reading() as connection:
            return {row.old_epoch: row.moved_at for row in connection.execute(query)}

    def waiting(self, gallery: Gallery, move: Move) -> Sequence[StoredUnit]:
        """Return the live units that are not re-encrypted yet, in the order of storing."""
        done = self._hashes(gallery, move)
        return [unit for unit in self._units.live(gallery) if unit.id not in done]

    def add(self, unit: StoredUnit, move: Move, sha256: bytes) -> None:
        """Take note that a unit's new file is in place."""
        with self._database.writing() as connection:
            connection.execute(reencrypted.delete().where(reencrypted.c.unit_id == unit.id))
            row = {"unit_id": unit.id, "switching_key": move.switching_key, "sha256": sha256}
            connection.execute(reencrypted.insert().values(row))

    def units(self, gallery: Gallery, move: Move, names: Collection[bytes]) -> list[StoredUnit]:
        """Return re-encrypted units by name, live or removed, as they are under the new key."""
        done = self._hashes(gallery, move)
        found = self._units.by_names(gallery, names)
        return [replace(unit, sha256=done[unit.id]) for unit in found if unit.id in done]

    def live(self, gallery: Gallery, move: Move, block: int) -> list[StoredUnit]:
        """Return a block's live units that are re-encrypted, as they are under the new key."""
        done = self._hashes(gallery, move, block)
        live = self._units.live(gallery, block)
        return [replace(unit, sha256=done[unit.id]) for unit in live if unit.id in done]

    def finish(self, gallery: Gallery, move: Move, moment: str) -> None:
        """Let the gallery be of the new epoch: one transaction, one more version.

        Raises
        ------
        Damaged
            A live unit is not re-encrypted; nothing was changed.
        """
        mine = sa.select(units.c.id).where(units.c.gallery_id == gallery.id)
        live = mine.where(units.c.removed_version == 0)
        hashes = sa.select(reencrypted.c.sha256).where(
            reencrypted.c.unit_id == units.c.id,
            reencrypted.c.switching_key == move.switching_key,
        )
        with self._database.writing() as connection:
            here = units.update().where(units.c.id.in_(live), hashes.exists())
            changed = connection.execute(here.values(sha256=hashes.scalar_subquery())).rowcount
            wanted = sa.select(sa.func.count()).select_from(live.subquery())
            if changed != connection.scalar(wanted):
                raise Damaged("a unit of the gallery is not re-encrypted")
            version = raise_version(connection, gallery, None)
            row = galleries.update().where(galleries.c.id == gallery.id)
            connection.execute(row.values(key_epoch=move.new_epoch))
            moved = {
                "gallery_id": gallery.id,
                "old_epoch": gallery.spec.pin.key_epoch,
                "new_epoch": move.new_epoch,
                "switching_key": move.switching_key,
                "version": version,
                "moved_at": moment,
            }
            connection.execute(rotations.insert().values(moved))
            connection.execute(reencrypted.delete().where(reencrypted.c.unit_id.in_(mine)))

    def _hashes(self, gallery: Gallery, move: Move, block: int | None = None) -> dict[int, bytes]:
        join = reencrypted.join(units, reencrypted.c.unit_id == units.c.id)
        query = (
            sa.select(reencrypted.c.unit_id, reencrypted.c.sha256)
            .select_from(join)
            .where(units.c.gallery_id == gallery.id)
            .where(reencrypted.c.switching_key == move.switching_key)
        )
        if block is not None:
            query = query.where(units.c.block == block)
        with self._database.reading() as connection:
            return {row.unit_id: row.sha256 for row in connection.execute(query)}
