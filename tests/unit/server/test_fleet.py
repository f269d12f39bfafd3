"""A server's executor with a real Ray of its own."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from itertools import product

import pytest

from tests import store_fixtures
from tests.store_fixtures import LAB
from tests.unit.server import test_shard as shards
from underseal_core.scheme.evaluation import Probe
from underseal_server.cluster.checkpoints import Checkpoints
from underseal_server.engine.keys import KeyEpochs
from underseal_server.engine.threads import Threads
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.store import BUNDLES, Store

pytest.importorskip("ray", reason="install underseal[server,ray]")

PATIENCE = 150.0

evaluator, store = store_fixtures.evaluator, store_fixtures.store
gallery, probe = shards.gallery, shards.probe


@pytest.fixture
def keys(store: Store) -> KeyEpochs:
    LAB.bundle.save(store.folder / BUNDLES / f"{LAB.bundle.epoch}.usb")
    return KeyEpochs(store.folder / BUNDLES, 1)


def test_a_shard_scores_its_part_also_when_that_is_a_single_block(
    store: Store, gallery: GalleryStore, probe: Probe, keys: KeyEpochs
) -> None:
    """The server's own threads for it are shut down: it could score none in place of the shard."""
    from underseal_server.cluster.executor import RayExecutor
    from underseal_server.cluster.fleet import Cluster, Fleet

    async def scored(
        executor: RayExecutor, numbers: tuple[int, ...], probes: int
    ) -> dict[int, tuple[bytes, ...]]:
        found = executor.score(gallery, probes * [probe], numbers)
        async with aclosing(found) as blocks:
            return {one.block: tuple(s.data for s in one.sealed) async for one in blocks}

    async def main(threads: Threads) -> None:
        fleet = Fleet(Cluster("", 1, "test"), Checkpoints.of(store.folder, None))
        await fleet.start()
        try:
            async with asyncio.timeout(PATIENCE):
                while not fleet.size:  # noqa: ASYNC110  # of Ray
                    await asyncio.sleep(0.05)
                executor = RayExecutor(fleet, keys, threads)
                for numbers, probes in product(((0,), (1, 2)), (1, 2)):
                    wanted = {n: probes * shards.expected(gallery, probe, n) for n in numbers}
                    assert await scored(executor, numbers, probes) == wanted
        finally:
            await fleet.close()

    threads = Threads()
    threads.compute.shutdown()
    try:
        asyncio.run(main(threads))
    finally:
        threads.close()
        keys.close()
