"""Galleries that are open, and the order in which calls may touch them.

What stores units holds ``admitting``. A change of a gallery's blocks holds ``changing`` (one at a
time) and, while it shows, ``shared`` for writing. Who needs several takes them in this order. A
search holds ``shared`` for reading from the moment it reads the snapshot until the last
block is scored, so its result is of exactly that version.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Final

import structlog

from underseal_core.errors import Busy, Damaged, NotFound, UndersealError
from underseal_core.gallery.unit_files import StagedUnit
from underseal_core.scheme.ciphertext import Ciphertext, Residues
from underseal_server.engine.executor import Executor
from underseal_server.engine.hosted import Hosted, Moved
from underseal_server.engine.keys import KeyEpochs
from underseal_server.engine.threads import Threads, finish
from underseal_server.store.amendments import SignedAmendment
from underseal_server.store.database import partly_done
from underseal_server.store.records import (
    Gallery,
    GallerySpec,
    NewUnit,
    Receipt,
    State,
    StoredUnit,
    View,
)
from underseal_server.store.reencryption import Reencryption
from underseal_server.store.rotations import Move
from underseal_server.store.store import Store

_log: Final = structlog.get_logger("underseal.engine")


@dataclass(frozen=True, slots=True)
class Description:
    """A gallery as lists show it; one that cannot be opened has no snapshot root.

    ``pending``: templates that are stored, but in no version yet.
    """

    gallery: Gallery
    view: View
    bytes_stored: int
    pending: int


class Hosting:
    """All galleries of a data folder.

    Parameters
    ----------
    store
        The data folder.
    keys
        Key epochs.
    executor
        Expands rows.
    threads
        For the store's work.
    """

    def __init__(self, store: Store, keys: KeyEpochs, executor: Executor, threads: Threads) -> None:
        self._store = store
        self._keys = keys
        self._executor = executor
        self._pool = threads.store
        self._hosted: dict[int, Hosted] = {}
        self._opening = asyncio.Lock()
        """Held while a gallery is opened or deleted."""

    async def open_all(self) -> None:
        """Open every gallery; one that cannot be opened is logged and tried again when used."""
        after = ""
        while page := await finish(self._pool, self._store.galleries.page, after, 100):
            for gallery in page:
                try:
                    await self.open(gallery.name)
                except UndersealError as error:
                    _log.error("gallery not opened", gallery=gallery.name, reason=error.public)
            after = page[-1].name

    async def open(self, name: str) -> Hosted:
        """Return an open gallery.

        Raises
        ------
        NotFound
            There is none of this name.
        Mismatch
            This server has no bundle for it.
        Damaged
            A stored unit is.
        """
        hosted = self.opened(name)
        if hosted is None:
            async with self._opening:
                gallery = await self.row(name)  # again: it may have been deleted meanwhile
                hosted = self._settled(gallery.id)
                if hosted is None:
                    stale = self._hosted.pop(gallery.id, None)
                    if stale is not None:
                        await stale.intake.close()
                    hosted = self._hosted[gallery.id] = await self._open(gallery)
        return hosted

    def opened(self, name: str) -> Hosted | None:
        """Return a gallery that is open, without a look at the catalogue.

        Only this server makes, moves and deletes galleries, and it keeps the open ones in step.
        """
        return next(
            (
                hosted
                for hosted in self._hosted.values()
                if hosted.gallery.name == name and hosted.settled() and not hosted.deleted
            ),
            None,
        )

    def _settled(self, number: int) -> Hosted | None:
        hosted = self._hosted.get(number)
        return None if hosted is None or not hosted.settled() else hosted

    async def _open(self, gallery: Gallery) -> Hosted:
        evaluator = await finish(self._pool, self._keys.evaluator, gallery.spec.pin)
        doubts = self._store.doubts()

        def settled() -> bool:
            return self._store.doubts() == doubts

        opened = await finish(self._pool, self._store.open_gallery, gallery, evaluator)
        hosted = Hosted(opened, settled, self._pool)
        hosted.intake.wake()
        return hosted

    async def row(self, name: str) -> Gallery:
        """Return a gallery's row.

        Raises
        ------
        NotFound
            There is none of this name.
        """
        return await finish(self._pool, self._store.galleries.get, name)

    async def create(self, spec: GallerySpec) -> Description:
        """Create a gallery; the same one again gives the stored one.

        Raises
        ------
        Mismatch
            No bundle of the pin's key epoch, or profile or dimension differ from it.
        Conflict
            The name is taken.
        """
        await finish(self._pool, self._keys.evaluator, spec.pin)
        moment = self._store.clock()
        gallery = await finish(self._pool, self._store.galleries.create, spec, moment)
        return await self.describe(gallery)

    async def describe(self, gallery: Gallery) -> Description:
        """Return a gallery's present state; without a root while a block cannot be made."""
        hosted = self._settled(gallery.id)
        if hosted is None:
            return await self._describe_closed(gallery)
        try:
            async with hosted.reading() as opened:  # deletion waits: the files stay while measured
                view = await finish(self._pool, opened.view)
                row = await finish(self._pool, self._store.galleries.get, gallery.name)
                return await finish(self._pool, self._measured, row, view)
        except Moved:
            return await self.describe(await self.row(gallery.name))
        except Damaged as error:
            _log.error("gallery is damaged", gallery=gallery.name, reason=error.public)
            return await self._describe_closed(gallery)

    async def _describe_closed(self, gallery: Gallery) -> Description:
        state = await finish(self._pool, self._store.digests.read, gallery)
        live = state.live()
        count = sum(entries.templates for entries in live.values())
        closed = View(state.version, "", count, dict.fromkeys(live, ""))
        return await finish(self._pool, self._measured, gallery, closed)

    def _measured(self, gallery: Gallery, view: View) -> Description:
        pending = self._store.units.pending_templates(gallery)
        size = self._store.bytes_stored(gallery, len(view.blocks))
        return Description(gallery, view, size, pending)

    async def page(self, after: str, limit: int) -> Sequence[Description]:
        """Return a page of galleries in order of name."""
        rows = await finish(self._pool, self._store.galleries.page, after, limit)
        return [await self.describe(row) for row in rows]

    async def delete(self, gallery: Gallery) -> None:
        """Delete a gallery; waits for searches in it."""
        async with self._opening:
            hosted = self._settled(gallery.id)
            if hosted is None:
                await finish(self._pool, self._store.delete_gallery, gallery)
                await self._executor.forget(gallery, None)
                return
            async with hosted.admitting, hosted.changing, hosted.writing():
                await self._delete_open(hosted)
        await hosted.intake.close()

    async def move(self, hosted: Hosted, way: Reencryption, move: Move) -> None:
        """Let a gallery be of its new key epoch, once nothing changes and nobody reads it.

        What is left to re-encrypt is done while searches go on; enrolments and removals wait.
        """
        async with self._opening, hosted.admitting:
            hosted.check()
            await hosted.intake.drain()  # the new epoch's files are those of ACTIVE units
            await self._move(hosted, way, move)
        await hosted.intake.close()

    async def _move(self, hosted: Hosted, way: Reencryption, move: Move) -> None:
        async with hosted.changing:
            hosted.check()
            await finish(self._pool, way.settle)
            async with hosted.writing():
                moment, ended = self._store.clock(), self._store.rotations.finish
                await finish(self._pool, ended, hosted.gallery, move, moment)
                hosted.moved = True
                del self._hosted[hosted.gallery.id]
                await finish(self._pool, hosted.store.close)
                await self._executor.forget(hosted.gallery, None)
            gallery = await self.row(hosted.gallery.name)
            self._hosted[gallery.id] = await self._open(gallery)

    async def _delete_open(self, hosted: Hosted) -> None:
        hosted.deleted = True  # before its files go: who misses one asks
        try:
            await finish(self._pool, self._store.delete_gallery, hosted.gallery)
        except UndersealError:
            hosted.deleted = False
            raise
        self._hosted.pop(hosted.gallery.id, None)
        await finish(self._pool, hosted.store.close)
        await self._executor.forget(hosted.gallery, None)

    async def enrol(
        self, hosted: Hosted, unit: NewUnit, staged: StagedUnit, until: State
    ) -> Receipt:
        """Store a unit whose ciphertexts have all come.

        Parameters
        ----------
        until
            PENDING: return once it is durable; ACTIVE: once it is in every later search.
        """
        await finish(self._pool, staged.sync)
        receipt = await hosted.intake.store(unit, staged)
        if until is not State.ACTIVE or receipt.state is not State.PENDING:
            return receipt
        await hosted.intake.shown(unit.token)
        stored = await finish(self._pool, self._store.units.by_token, hosted.gallery, unit.token)
        if stored is None:
            raise NotFound(f"there is no gallery {hosted.gallery.name}")
        return Receipt.of(stored, repeated=receipt.repeated)

    async def unit(
        self, hosted: Hosted, token: bytes, epoch: str
    ) -> AsyncGenerator[Ciphertext, None]:
        """Yield a live unit's ciphertexts.

        Parameters
        ----------
        epoch
            A key epoch that the gallery has left: as the unit was then. Empty: as it is.

        Raises
        ------
        NotFound
            There is no live unit of this token, it was removed meanwhile, or it was not of this
            epoch or is not kept.
        Damaged
            Its file is.
        """
        found = await self.live_unit(hosted, token)
        files = hosted.store.files
        if epoch and epoch != hosted.gallery.spec.pin.key_epoch:
            files = await finish(self._pool, self._store.old_units, hosted.gallery, epoch)
            if not await finish(self._pool, files.exists, found.name):
                raise NotFound("the unit was not there under this key epoch")
            found = replace(found, sha256=await finish(self._pool, files.sha256, found))
        ciphertexts = files.ciphertexts(found)
        try:
            while (one := await finish(self._pool, next, ciphertexts, None)) is not None:
                yield one
        except Damaged:
            await self.live_unit(hosted, token)  # its file goes with it
            raise
        finally:
            await finish(self._pool, ciphertexts.close)

    async def amend(
        self, hosted: Hosted, unit: StoredUnit, amendment: SignedAmendment, staged: StagedUnit
    ) -> StoredUnit:
        """Let amended ciphertexts, which have all come, take the place of a unit's.

        See :meth:`GalleryStore.amend`; the unit as it was under earlier key epochs goes, too.
        """
        await finish(self._pool, staged.sync)
        async with hosted.changing:
            hosted.check()
            unit = await self.live_unit(hosted, unit.token)
            columns = None
            if staged.row is not None and not amendment.done(unit):
                row = await finish(self._pool, next, hosted.store.files.ciphertexts(unit))
                before = await self._executor.expand(hosted.evaluator, row)
                columns = before, await self._executor.expand(hosted.evaluator, staged.row)
            async with hosted.writing() as opened:
                now = await finish(self._pool, opened.amend, unit, amendment, staged, columns)
            await self._executor.forget(hosted.gallery, {unit.placement.block})
            with partly_done():
                await finish(self._pool, self._store.forget_former, hosted.gallery, now)
            return now

    async def live_unit(self, hosted: Hosted, token: bytes) -> StoredUnit:
        """Return a live unit.

        Raises
        ------
        NotFound
            There is none of this token.
        """
        hosted.check()
        found = await finish(self._pool, self._store.units.by_token, hosted.gallery, token)
        if found is None or found.state is not State.ACTIVE:
            raise NotFound("the gallery has no live unit of this token")
        return found

    async def remove(self, hosted: Hosted, template_ids: dict[int, list[bytes]]) -> int:
        """Remove templates, unit by unit; each unit's are removed at once.

        Parameters
        ----------
        hosted
            The gallery.
        template_ids
            By number of the unit.

        Returns
        -------
        int
            How many were live.
        """
        removed = 0
        for unit in await self._shown_units(hosted, list(template_ids)):
            with partly_done() if removed else nullcontext():
                removed += await self._remove(hosted, unit, template_ids[unit.id])
        return removed

    async def _remove(self, hosted: Hosted, unit: StoredUnit, chosen: Sequence[bytes]) -> int:
        async with hosted.changing:
            hosted.check()  # its files may have gone while this waited
            columns = await self._leaving(hosted, unit, chosen)
            async with hosted.writing() as opened:
                removed = await finish(self._pool, opened.remove, unit, chosen, columns)
            with partly_done():
                (now,) = await finish(self._pool, self._store.units.by_ids, [unit.id])
                if now.removed_version:
                    await self._executor.forget(hosted.gallery, {unit.placement.block})
                    await finish(self._pool, self._store.forget_former, hosted.gallery, now)
        return removed

    async def _shown_units(self, hosted: Hosted, numbers: Sequence[int]) -> Sequence[StoredUnit]:
        """Return units, none of them PENDING: what leaves was there before, in any mirror."""
        found = await finish(self._pool, self._store.units.by_ids, numbers)
        for unit in found:
            await hosted.intake.shown(unit.token)
        return await finish(self._pool, self._store.units.by_ids, numbers)

    async def _leaving(
        self, hosted: Hosted, unit: StoredUnit, template_ids: Sequence[bytes]
    ) -> Residues | None:
        """Expand a row that is about to leave, while searches still go on."""
        if unit.removed_version:
            return None
        row = await finish(self._pool, hosted.store.leaving_row, unit, template_ids)
        return None if row is None else await self._executor.expand(hosted.evaluator, row)

    async def close(self) -> None:
        """Stop showing units; those that are PENDING are shown after the next start."""
        for hosted in list(self._hosted.values()):
            await hosted.intake.close()

    async def save(self) -> None:
        """Write checkpoints of all changed blocks. Searches go on meanwhile."""
        for hosted in list(self._hosted.values()):
            async with hosted.changing:
                if not hosted.deleted and hosted.settled() and hosted.store.unsaved():
                    await finish(self._pool, hosted.store.checkpoint)
        try:
            await finish(self._pool, self._store.purge)
        except UndersealError as error:  # tried again next time, or after the next start
            _log.warning("catalogue not purged", reason=error.public)

    async def settle(self, hosted: Hosted) -> None:
        """Leave nothing on disk of what was removed from a gallery before this was called.

        Raises
        ------
        Busy
            A checkpoint that holds some of it could not be replaced, or one of a key epoch that
            the gallery has left could not be deleted.
        """
        async with hosted.changing:
            hosted.check()
            if hosted.store.unsaved():
                await finish(self._pool, hosted.store.checkpoint)
            gone = await finish(self._pool, self._store.forget_left_blocks, hosted.gallery)
            if hosted.store.unsaved() or not gone:
                raise Busy(
                    "what was removed could not be erased from disk yet",
                    hint="try again; the operator sees the reason in the server's log",
                )
        await finish(self._pool, self._store.purge)

    async def keep_saving(self, seconds: float) -> None:
        """Save every ``seconds`` until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.save()
            except Exception:  # noqa: BLE001  # nothing is lost: tried again next time
                _log.exception("saving failed")
