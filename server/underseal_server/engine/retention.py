"""Removes templates when the time that they were enrolled for is over."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from underseal_core.errors import UndersealError
from underseal_server.engine.hosting import Hosting
from underseal_server.engine.threads import Threads, finish
from underseal_server.store.records import Gallery
from underseal_server.store.store import Store

_log: Final = structlog.get_logger("underseal.engine")


class Retention:
    """Looks for templates that are past their time, and removes them like anybody would.

    Parameters
    ----------
    store, hosting
        The galleries.
    threads
        For the store's work.
    """

    def __init__(self, store: Store, hosting: Hosting, threads: Threads) -> None:
        self._store = store
        self._hosting = hosting
        self._pool = threads.store

    async def keep_removing(self, seconds: float) -> None:
        """Remove what is due every ``seconds`` until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.remove_all()
            except Exception:  # noqa: BLE001  # nothing is lost: tried again next time
                _log.exception("retention failed")

    async def remove_all(self) -> None:
        """Remove what is due in every gallery; one that fails is tried again next time."""
        after = ""
        while page := await finish(self._pool, self._store.galleries.page, after, 100):
            for gallery in page:
                try:
                    await self._remove(gallery)
                except UndersealError as error:
                    _log.error("not removed", gallery=gallery.name, reason=error.public)
            after = page[-1].name

    async def _remove(self, gallery: Gallery) -> None:
        moment = self._store.clock()
        late = self._store.templates.units_past_their_time
        due = await finish(self._pool, late, gallery, moment)
        if due:
            hosted = await self._hosting.open(gallery.name)
            removed = await self._hosting.remove(hosted, due)
            _log.info("past their time", gallery=gallery.name, removed=removed)
