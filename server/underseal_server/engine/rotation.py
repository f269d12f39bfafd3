"""Galleries on their way to a new key epoch, while they are searched and enrolled into.

Whoever adds a switching key that old and new key holders signed starts it: every gallery of the
old epoch is re-encrypted, unit by unit, and then is of the new one from one version to the next.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from underseal_core.errors import UndersealError
from underseal_core.scheme.reencryption import Reencryptor
from underseal_server.engine.hosted import Hosted, Moved
from underseal_server.engine.hosting import Hosting
from underseal_server.engine.keys import KeyEpochs, SwitchingKeys
from underseal_server.engine.threads import Threads, finish
from underseal_server.store.records import Gallery
from underseal_server.store.reencryption import Successor
from underseal_server.store.rotations import Move
from underseal_server.store.store import Store

_log: Final = structlog.get_logger("underseal.engine")


class Rotator:
    """Moves galleries whose key epoch has a successor.

    Parameters
    ----------
    store, hosting
        The galleries.
    epochs, switching
        Bundles and switching keys.
    threads
        For the work, which runs beside searches.
    keep
        How long units of an epoch that a gallery has left stay.
    """

    def __init__(
        self,
        store: Store,
        hosting: Hosting,
        epochs: KeyEpochs,
        switching: SwitchingKeys,
        threads: Threads,
        keep: timedelta,
    ) -> None:
        self._store = store
        self._hosting = hosting
        self._epochs = epochs
        self._switching = switching
        self._pool = threads.store
        self._keep = keep

    async def keep_rotating(self, seconds: float) -> None:
        """Look for new switching keys every ``seconds`` until cancelled."""
        while True:
            try:
                await self.rotate_all()
            except Exception:  # noqa: BLE001  # nothing is lost: it goes on next time
                _log.exception("rotation failed")
            await asyncio.sleep(seconds)

    async def rotate_all(self) -> None:
        """Move every gallery whose epoch has a successor; one that fails is tried again."""
        after = ""
        while page := await finish(self._pool, self._store.galleries.page, after, 100):
            for gallery in page:
                try:
                    while await self._rotate(gallery):
                        gallery = await self._hosting.row(gallery.name)
                    await finish(self._pool, self._store.delete_old_files, gallery, self._keep)
                except UndersealError as error:
                    _log.error("gallery not moved", gallery=gallery.name, reason=error.public)
            after = page[-1].name

    async def _rotate(self, gallery: Gallery) -> bool:
        """Move a gallery to the next epoch, if there is one."""
        key = await finish(self._pool, self._switching.successor, gallery.spec.pin.key_epoch)
        if key is None:
            return False
        hosted = await self._hosting.open(gallery.name)
        if hosted.gallery.spec.pin != gallery.spec.pin:
            return True
        pin = gallery.spec.pin.model_copy(update={"key_epoch": key.new_epoch})
        evaluator = await finish(self._pool, self._epochs.evaluator, pin)
        with Reencryptor(key.profile, key.key) as reencryptor:
            move = Move(key.new_epoch, key.id)
            await self._reencrypt(hosted, Successor(move, reencryptor, evaluator))
        _log.info("gallery moved", gallery=gallery.name, key_epoch=key.new_epoch)
        return True

    async def _reencrypt(self, hosted: Hosted, successor: Successor) -> None:
        way = await finish(self._pool, self._store.open_reencryption, hosted.store, successor)
        try:
            while waiting := await finish(self._pool, way.waiting):
                _log.info("re-encrypting", gallery=hosted.gallery.name, units=len(waiting))
                for unit in waiting:
                    hosted.check()
                    await finish(self._pool, way.convert, unit)
            await self._hosting.move(hosted, way, successor.move)
        except Moved:
            return
        finally:
            way.close()
