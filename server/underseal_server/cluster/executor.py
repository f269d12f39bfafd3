"""The executor of a cluster: probes are expanded and scored where the blocks are.

No search depends on a shard. What one that was lost has not answered goes to the others, which
read its blocks; what no shard can do, and blocks whose checkpoint is behind, are scored here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from concurrent.futures import Executor as Pool
from contextlib import aclosing, asynccontextmanager
from functools import partial
from hashlib import sha256
from typing import Final

import structlog

from underseal_core.errors import MalformedCiphertext
from underseal_core.gallery.memory import tiles_bytes
from underseal_core.scheme.ciphertext import Ciphertext, Kind, Residues, parse_ciphertext
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.profiles import Profile
from underseal_server.cluster.checkpoints import Checkpoints, Piece
from underseal_server.cluster.fleet import Cluster, Failed, Fleet, Lost, Member
from underseal_server.cluster.probes import Row
from underseal_server.cluster.shard import Answer
from underseal_server.engine.executor import (
    ReadyProbe,
    Scored,
    Sealed,
    ThreadExecutor,
)
from underseal_server.engine.keys import KeyEpochs
from underseal_server.engine.threads import Threads, finish, settled
from underseal_server.store.folders import BLOCKS, part_name
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import Gallery

BLOCKS_AT_ONCE: Final = 16
"""Blocks per call: one costs about 1 ms, and a search is cancelled between calls."""
CALLS_AHEAD: Final = 2
"""Calls that a shard has at a time: it begins with the next while the answer travels."""

_log: Final = structlog.get_logger("underseal.cluster")


class RayExecutor:
    """See :class:`underseal_server.engine.executor.Executor`.

    Parameters
    ----------
    fleet
        The shards.
    keys
        Key epochs: shards get their evaluation keys.
    threads
        For what is computed here.
    """

    def __init__(self, fleet: Fleet, keys: KeyEpochs, threads: Threads) -> None:
        self._fleet = fleet
        self._keys = keys
        self._here = ThreadExecutor(threads)
        self._pool = threads.store

    @property
    def shards(self) -> int:
        """See :class:`Executor`."""
        return self._fleet.size

    async def expand(self, evaluator: Evaluator, row: Ciphertext) -> Residues:
        """See :class:`Executor`: here."""
        return await self._here.expand(evaluator, row)

    async def prepare(self, opened: GalleryStore, rows: Sequence[Ciphertext]) -> list[ReadyProbe]:
        """See :class:`Executor`: on every shard that has blocks of the gallery, or else here."""
        ready = await asyncio.gather(*(self._prepare(opened, row) for row in rows))
        left = [row for row, one in zip(rows, ready, strict=True) if one is None]
        here = iter(await self._here.prepare(opened, left) if left else ())
        return [next(here) if one is None else one for one in ready]

    async def _prepare(self, opened: GalleryStore, row: Ciphertext) -> ReadyProbe | None:
        members = self._fleet.holders(_place(opened.gallery))
        if not members:
            return None
        try:
            await self._publish(opened)
            return await self._prepared(opened.gallery, row, members)
        except Exception:  # noqa: BLE001  # of Ray, or of the keys
            _log.exception("the cluster failed")
            return None

    async def forget(self, gallery: Gallery, blocks: Collection[int] | None) -> None:
        """See :class:`Executor`."""
        await self._fleet.forget(_place(gallery), blocks)

    async def score(
        self, opened: GalleryStore, probes: Sequence[ReadyProbe], numbers: Collection[int]
    ) -> AsyncGenerator[Scored, None]:
        """See :class:`Executor`."""
        pieces = await finish(self._pool, _pieces, opened, numbers)
        behind = set(numbers) - {piece.number for piece in pieces}
        run = _Run(self._fleet, self._pool, opened.gallery.profile, probes, pieces)
        work = asyncio.create_task(run.work(partial(self._publish, opened)))
        try:
            async with aclosing(self._here.score(opened, probes, behind)) as here:
                async for one in here:
                    yield one
            while (found := await run.results.get()) is not None:
                yield found
            await work
        finally:
            work.cancel()
            await settled(work)
        async with aclosing(self._here.score(opened, probes, run.left)) as here:
            async for one in here:
                yield one

    async def _prepared(
        self, gallery: Gallery, row: Ciphertext, members: Sequence[Member]
    ) -> ReadyProbe | None:
        """Have a probe expanded by shards, and checked by the first; ``None``: that one cannot."""
        name, epoch = secrets.token_bytes(16), gallery.spec.pin.key_epoch
        sent = Row(name, row.to_bytes())
        methods = ["prepare"] + (len(members) - 1) * ["expand"]
        asked = (
            self._ask(member, method, epoch, sent)
            for member, method in zip(members, methods, strict=True)
        )
        answer, *_ = await asyncio.gather(*asked)
        kinds = (Kind.NORM,)
        found = await finish(self._pool, sealed_answer, answer, kinds, gallery.profile)
        return None if found is None else ReadyProbe(row, found[0], None, name)

    async def _ask(self, member: Member, method: str, epoch: str, sent: Row) -> Answer:
        try:
            await self._fleet.teach(member, epoch)
            answer: Answer = await member.call(method, epoch, sent)
        except Lost as error:
            self._fleet.drop(member, str(error))
        except Failed as error:
            _tell_failed(member, error)
        else:
            return answer
        return None

    async def _publish(self, opened: GalleryStore) -> None:
        epoch = opened.gallery.spec.pin.key_epoch
        if not self._fleet.knows(epoch):
            bundle = await finish(self._pool, self._keys.bundle, epoch)
            dimension = opened.evaluator.dimension
            await self._fleet.publish(epoch, bundle.profile.name, dimension, bundle.keys)


class _Run:
    """One call of :meth:`RayExecutor.score`: what the shards do of it."""

    def __init__(
        self,
        fleet: Fleet,
        pool: Pool,
        profile: Profile,
        probes: Sequence[ReadyProbe],
        pieces: Sequence[Piece],
    ) -> None:
        self._fleet = fleet
        self._pool = pool
        self._profile = profile
        self._rows = [Row(probe.name, probe.row.to_bytes()) for probe in probes]
        self._pieces = pieces
        self._lost: list[Piece] = []
        self.results: asyncio.Queue[Scored | None] = asyncio.Queue()
        """Ends with ``None``."""
        self.left = {piece.number for piece in pieces}
        """Blocks that no shard has scored, when :meth:`work` has ended."""

    async def work(self, publish: Callable[[], Awaitable[None]]) -> None:
        """Have all blocks scored; those of lost shards by others. Whatever fails is left over.

        Parameters
        ----------
        publish
            Lets shards have the evaluation keys.
        """
        try:
            pieces = self._pieces
            if not pieces or not self._fleet.size:
                return
            await publish()
            while pieces and (shares := self._fleet.place(pieces)):
                self._lost = []
                await self._round(shares)
                pieces = self._lost
        except Exception:  # noqa: BLE001  # of Ray, or of the keys
            _log.exception("the cluster failed")
        finally:
            self.results.put_nowait(None)

    async def _round(self, shares: list[tuple[Member, list[Piece]]]) -> None:
        async with asyncio.TaskGroup() as calls:
            for member, some in shares:
                left = deque(some)
                for _ in range(CALLS_AHEAD):
                    calls.create_task(self._ask(member, left))
        for member, _ in shares:
            member.tell("drop", [row.name for row in self._rows])

    async def _ask(self, member: Member, left: deque[Piece]) -> None:
        while left:
            some = [left.popleft() for _ in range(min(BLOCKS_AT_ONCE, len(left)))]
            try:
                await self._fleet.teach(member, some[0].epoch)
                answers = await member.call_each("score", self._rows, some, answers=len(some))
            except Lost as error:
                self._fleet.drop(member, str(error))
                self._lost += [*some, *left]
                left.clear()
            except Failed as error:
                _tell_failed(member, error)
            else:
                await self._take(some, answers)

    async def _take(self, pieces: Sequence[Piece], answers: Sequence[Answer]) -> None:
        kinds, profile = len(self._rows) * (Kind.RESULT,), self._profile

        def check() -> list[tuple[Sealed, ...] | None]:
            return [sealed_answer(answer, kinds, profile) for answer in answers]

        for piece, sealed in zip(pieces, await finish(self._pool, check), strict=True):
            if sealed is not None:
                self.left.discard(piece.number)
                self.results.put_nowait(Scored(piece.number, sealed))


def sealed_answer(
    answer: Answer, kinds: Sequence[Kind], profile: Profile
) -> tuple[Sealed, ...] | None:
    """Return what a shard answered, if it is ciphertexts of the profile of these kinds."""
    if answer is None or len(answer) != len(kinds):
        return None
    try:
        for data, kind in zip(answer, kinds, strict=True):
            parse_ciphertext(data, profile, kind)
    except MalformedCiphertext:
        return None
    return tuple(Sealed(data, sha256(data).hexdigest()) for data in answer)


def _tell_failed(member: Member, error: Failed) -> None:
    _log.error("a shard failed", node=member.room.node, reason=str(error))


def _place(gallery: Gallery) -> str:
    return part_name(BLOCKS, gallery.id, gallery.spec.pin.key_epoch)


def _pieces(opened: GalleryStore, numbers: Collection[int]) -> list[Piece]:
    """Return the blocks whose checkpoints are up to date."""
    evaluator, gallery = opened.evaluator, opened.gallery
    size = tiles_bytes(evaluator.profile, evaluator.dimension)
    epoch, place = gallery.spec.pin.key_epoch, _place(gallery)
    roots = [(number, opened.saved_root(number)) for number in numbers]
    return [Piece(epoch, place, number, root, size) for number, root in roots if root]


@asynccontextmanager
async def cluster_executor(
    cluster: Cluster, checkpoints: Checkpoints, keys: KeyEpochs, threads: Threads
) -> AsyncIterator[RayExecutor]:
    """Join a cluster; leave it at the end.

    Raises
    ------
    InvalidInput
        See :meth:`Fleet.start`.
    """
    fleet = Fleet(cluster, checkpoints)
    await fleet.start()
    try:
        yield RayExecutor(fleet, keys, threads)
    finally:
        await fleet.close()
