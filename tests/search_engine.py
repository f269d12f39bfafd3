"""A search engine on real galleries, keys and disk, without a network."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.server_fixtures import Lab, UnitContent, Vectors, labelled, signed_for, unit_vectors
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.statements import Targets
from underseal_server.engine.admission import Admission
from underseal_server.engine.executor import ThreadExecutor
from underseal_server.engine.hosted import Hosted
from underseal_server.engine.hosting import Hosting
from underseal_server.engine.job import Asked, Event, Job, SealedBlock
from underseal_server.engine.keys import KeyEpochs
from underseal_server.engine.search import BatchTimes, SearchEngine
from underseal_server.engine.threads import Threads
from underseal_server.engine.unread import Unread
from underseal_server.store.records import GallerySpec, State
from underseal_server.store.store import BUNDLES, Store

LAB = Lab()
ENROLLED = unit_vectors(3)
EVERYBODY = Targets()
PROBE = LAB.probe(ENROLLED[0])
PATIENCE = 60.0


async def nothing() -> None:
    """Claim nothing: ids of requests are no concern here."""


@dataclass
class Place:
    """Two galleries of a unit in each of three blocks, and what a search of them takes."""

    hosted: Hosted
    other: Hosted
    executor: ThreadExecutor
    threads: Threads
    hosting: Hosting
    store: Store
    unread: Unread = field(default_factory=lambda: Unread(64 << 20))
    scored: list[int] = field(default_factory=list)
    """Searches that were scored, of each batch."""

    def admission(
        self,
        *,
        waiting: int = 16,
        wait_factor: float = 1.5,
        merged: int = 16,
        probe_bytes: int = 64 << 20,
    ) -> Admission:
        return Admission(
            running=1,
            waiting=waiting,
            wait_factor=wait_factor,
            merged=merged,
            probe_bytes=probe_bytes,
            unread=self.unread,
        )

    def job(
        self,
        client: str = "agency",
        *,
        patient: bool = False,
        hosted: Hosted | None = None,
        row: Ciphertext | None = None,
        targets: Targets = EVERYBODY,
        deadline: float = math.inf,
        claim: Callable[[], Awaitable[None]] = nothing,
    ) -> Job:
        probe = row or PROBE

        async def given() -> Ciphertext:
            return probe

        where = hosted or self.hosted
        asked = Asked(client, where, targets, given, claim, patient, deadline)
        return Job(asked, self.unread)

    @asynccontextmanager
    async def engine(self, admission: Admission) -> AsyncIterator[tuple[SearchEngine, list[int]]]:
        """Run searches; gives the sizes of the batches, too."""
        sizes: list[int] = []

        def observe(times: BatchTimes) -> None:
            sizes.append(len(times.expand))
            self.scored.append(times.scored)

        engine = SearchEngine(admission, self.executor, self.store.templates, self.threads, observe)
        lane = asyncio.create_task(engine.keep_running())
        try:
            yield engine, sizes
        finally:
            lane.cancel()
            await asyncio.wait((lane,))


async def events(engine: SearchEngine, job: Job) -> list[Event]:
    """Run a search to its end."""
    async with aclosing(engine.search(job)) as told:
        return [event async for some in told for event in some]


@asynccontextmanager
async def stalled(
    place: Place, client: str
) -> AsyncIterator[tuple[SearchEngine, list[int], AsyncGenerator[Sequence[Event], None]]]:
    """An engine with a search whose client reads no further than where its first block is.

    Gives the sizes of the batches, and the rest of the search. No other client's search is merged
    with it, and one result that nobody reads is as much as is kept.
    """
    async with place.engine(place.admission(merged=1)) as (engine, sizes):
        place.unread._limit = 1
        async with aclosing(engine.search(place.job(client, patient=True))) as told:
            while not any(isinstance(event, SealedBlock) for event in await anext(told)):
                pass
            yield engine, sizes, told


async def settle() -> None:
    """Let every task come to where it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


def run(folder: Path, test: Callable[[Place], Awaitable[None]]) -> None:
    """Run a test in a place of its own."""

    async def main() -> None:
        async with _place(folder) as place, asyncio.timeout(PATIENCE):
            await test(place)

    asyncio.run(main())


@asynccontextmanager
async def _place(folder: Path) -> AsyncIterator[Place]:
    store = Store(folder)
    LAB.bundle.save(folder / BUNDLES / f"{LAB.bundle.epoch}.usb")
    keys, threads = KeyEpochs(folder / BUNDLES, 2), Threads()
    executor = ThreadExecutor(threads)
    hosting = Hosting(store, keys, executor, threads)
    try:
        for name in ("missing", "other"):
            agency = frozenset({"agency"})
            await hosting.create(GallerySpec(name, LAB.pin, "agency", agency, 9))
        hosted, other = await hosting.open("missing"), await hosting.open("other")
        await _enrol(hosting, hosted, ENROLLED)
        await _enrol(hosting, other, ENROLLED[::-1])
        yield Place(hosted, other, executor, threads, hosting, store)
    finally:
        await hosting.close()
        threads.close()
        keys.close()
        store.close()


async def _enrol(hosting: Hosting, hosted: Hosted, vectors: Vectors) -> None:
    with hosted.store.files.stage(Shape.ROW) as staged:
        staged.write(LAB.row(vectors).to_bytes())
        made = labelled(len(vectors))
        content = UnitContent(secrets.token_bytes(16), Shape.ROW, made, staged, LAB.pin)
        signed = signed_for(hosted.gallery.spec.name, content)
        await hosting.enrol(hosted, signed, staged, State.ACTIVE)
