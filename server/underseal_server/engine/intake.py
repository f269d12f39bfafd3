"""What comes into one gallery: stored at once, many units together, and shown in the background.

A unit is PENDING when it is answered: file and row are durable. Whoever wants it in every later
search waits for ACTIVE. PENDING units are added up beside the blocks, on all cores, while searches
go on; searches stand still only while the sums are taken over.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor as Pool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from underseal_core.errors import Busy, Damaged, UndersealError
from underseal_core.gallery.unit import Shape
from underseal_server.engine.threads import finish, settled
from underseal_server.store.records import Receipt

if TYPE_CHECKING:
    from underseal_core.gallery.unit_files import StagedUnit
    from underseal_core.scheme.ciphertext import Ciphertext
    from underseal_server.engine.hosted import Hosted
    from underseal_server.store.folding import Folding
    from underseal_server.store.records import NewUnit, StoredUnit

MAX_PENDING: Final = 64
"""Units that may wait to be shown, of one gallery; then enrolments wait. Bounds the work that a
crash leaves to the next start."""
MAX_TOGETHER: Final = 32
"""Units that are shown together."""
MAX_SUMS: Final = 2
"""Blocks that units which are shown together go into: each takes the memory of a block."""
ROWS_TOGETHER: Final = 4
"""Rows of a block that are expanded and added up in one call: it takes 20 MB for each."""
RETRY_SECONDS: Final = 5.0
"""After what has failed, such as a checkpoint for want of room."""

_PUT_OFF: Final = Busy(
    "the unit is stored, but cannot be shown to searches now",
    retry_after_ms=int(1000 * RETRY_SECONDS),
    hint="if it happens again, call the operator",
)

_log: Final = structlog.get_logger("underseal.engine")


@dataclass(frozen=True, slots=True, eq=False)
class _Arrival:
    unit: NewUnit
    staged: StagedUnit
    stored: asyncio.Future[Receipt]


class Intake:
    """Takes units into one gallery.

    Parameters
    ----------
    hosted
        The gallery.
    pool
        For the store's work, and to add up.
    """

    def __init__(self, hosted: Hosted, pool: Pool) -> None:
        self._hosted = hosted
        self._pool = pool
        self._arrived: list[_Arrival] = []
        self._shown: dict[bytes, asyncio.Future[None]] = {}
        self._broken: dict[bytes, Damaged] = {}
        self._storing: asyncio.Task[None] | None = None
        self._showing: asyncio.Task[None] | None = None

    async def store(self, unit: NewUnit, staged: StagedUnit) -> Receipt:
        """Store a unit durably, together with whatever else arrives.

        Parameters
        ----------
        unit
            What is in it.
        staged
            Its ciphertexts, complete and synced.

        Raises
        ------
        Conflict, InvalidInput
            Token or template id taken, or too many templates of a subject.
        StorageFull, Damaged
            The storage failed; the unit is not stored.
        NotFound, Moved
            The gallery was deleted, or is of another key epoch by now.
        """
        if len(waiting := self._waiting()) >= MAX_PENDING:
            await self.shown(waiting[0].token)
        arrival = _Arrival(unit, staged, asyncio.get_running_loop().create_future())
        self._arrived.append(arrival)
        if self._storing is None:
            self._storing = asyncio.create_task(self._store_all())
        try:
            return await asyncio.shield(arrival.stored)
        except asyncio.CancelledError:
            if arrival in self._arrived:
                self._arrived.remove(arrival)
            else:
                await settled(arrival.stored)  # its file is in use until then
            raise

    async def shown(self, token: bytes) -> None:
        """Wait until a unit is in every later search; at once if it is not PENDING.

        Raises
        ------
        Busy
            It is stored, but cannot be shown now: there may be no room for a checkpoint.
        Damaged
            Its file is.
        NotFound, Moved
            The gallery was deleted, or is of another key epoch by now.
        """
        if token in self._broken:
            raise self._broken[token]
        if any(unit.token == token for unit in self._hosted.store.pending()):
            future = self._shown.setdefault(token, asyncio.get_running_loop().create_future())
            self.wake()
            await asyncio.shield(future)

    async def drain(self) -> None:
        """Show everything that is PENDING; see :meth:`shown`. Nothing may be stored meanwhile."""
        for unit in self._hosted.store.pending():
            await self.shown(unit.token)

    def wake(self) -> None:
        """Go on with what is PENDING, if anything is."""
        if self._showing is None and self._waiting():
            self._showing = asyncio.create_task(self._show_all())

    async def close(self) -> None:
        """End, once what has arrived is stored or refused; what is PENDING stays so."""
        if self._storing is not None:
            await settled(self._storing)
        if self._showing is not None:
            self._showing.cancel()
            await settled(self._showing)
        try:
            self._hosted.check()
        except UndersealError as error:
            self._tell(list(self._shown), error)
        for future in self._shown.values():
            future.cancel()

    async def _store_all(self) -> None:
        try:
            while self._arrived:
                await self._store(self._take())
        finally:
            self._storing = None

    def _take(self) -> list[_Arrival]:
        """Take what has arrived, one unit of each token; others of it are of the next round."""
        taken: dict[bytes, _Arrival] = {}
        for arrival in self._arrived:
            taken.setdefault(arrival.unit.token, arrival)
        self._arrived = [one for one in self._arrived if taken[one.unit.token] is not one]
        return list(taken.values())

    async def _store(self, taken: Sequence[_Arrival]) -> None:
        outcomes: Sequence[Receipt | Exception]
        try:
            async with self._hosted.admitting:
                self._hosted.check()
                entries = [(arrival.unit, arrival.staged) for arrival in taken]
                outcomes = await finish(self._pool, self._hosted.store.admit, entries)
        except Exception as error:  # noqa: BLE001  # each of those who wait raises it
            outcomes = [error] * len(taken)
        for arrival, outcome in zip(taken, outcomes, strict=True):
            if isinstance(outcome, Receipt):
                arrival.stored.set_result(outcome)
            else:
                arrival.stored.set_exception(outcome)
        self.wake()

    async def _show_all(self) -> None:
        try:
            while units := self._together():
                try:
                    await self._show(units)
                except UndersealError as error:
                    self._hosted.check()  # the end, when the gallery has gone
                    _log.error("units stay pending", reason=error.public, units=len(units))
                    self._tell([unit.token for unit in units], _PUT_OFF)
                    await asyncio.sleep(RETRY_SECONDS)
        except UndersealError as error:
            self._tell(list(self._shown), error)
        except Exception:  # noqa: BLE001  # whoever waits must hear of it
            _log.exception("units were not shown")
            self._tell(list(self._shown), Damaged("the units are stored, but not shown"))
        finally:
            self._showing = None

    def _waiting(self) -> list[StoredUnit]:
        return [u for u in self._hosted.store.pending() if u.token not in self._broken]

    def _together(self) -> list[StoredUnit]:
        """Return the units that are shown next."""
        chosen: list[StoredUnit] = []
        blocks: set[int] = set()
        for unit in self._waiting()[:MAX_TOGETHER]:
            blocks.add(unit.placement.block)
            if len(blocks) > MAX_SUMS:
                break
            chosen.append(unit)
        return chosen

    async def _show(self, units: Sequence[StoredUnit]) -> None:
        folding = self._hosted.store.folding()
        await self._add_all(folding, units)
        if len(folding.units) < len(units):
            return  # one is broken, so the sums are not to be trusted: again without it
        async with self._hosted.changing:
            self._hosted.check()
            await finish(self._pool, self._hosted.store.prepare, folding.sums)
            async with self._hosted.writing() as opened:
                await finish(self._pool, opened.activate, folding)
        self._tell([unit.token for unit in units], None)

    async def _add_all(self, folding: Folding, units: Sequence[StoredUnit]) -> None:
        """Add units up, several rows of a block at a time."""
        rows: defaultdict[int, list[tuple[StoredUnit, Ciphertext]]] = defaultdict(list)
        for unit in units:
            try:
                if unit.shape is Shape.ROW:
                    row = await finish(self._pool, folding.row, unit)
                    rows[unit.placement.block].append((unit, row))
                else:
                    await finish(self._pool, folding.add, unit)
            except Damaged as error:
                _log.error("a unit cannot be shown", unit=unit.id, reason=error.public)
                self._broken[unit.token] = error
                self._tell([unit.token], error)
        for waiting in rows.values():
            for start in range(0, len(waiting), ROWS_TOGETHER):
                chosen, ciphertexts = zip(*waiting[start : start + ROWS_TOGETHER], strict=True)
                await finish(self._pool, folding.add_rows, chosen, ciphertexts)

    def _tell(self, tokens: Iterable[bytes], error: UndersealError | None) -> None:
        """Tell those who wait for units: they are shown, or cannot be."""
        for token in tokens:
            future = self._shown.pop(token, None)
            if future is None:
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()  # seen, also when nobody waits any more
