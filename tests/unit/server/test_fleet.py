"""A server's executor with a real Ray of its own."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from tests import store_fixtures
from tests.store_fixtures import LAB
from tests.unit.server import test_shard as shards
from underseal_core.scheme.evaluation import Probe
from underseal_server.cluster.checkpoints import Checkpoints
from underseal_server.engine.executor import ReadyProbe, prepare_probes
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


def test_shards_expand_and_score_also_when_it_is_a_single_block(
    store: Store, gallery: GalleryStore, probe: Probe, keys: KeyEpochs
) -> None:
    """The server's own threads for it are shut down: it could do nothing in place of the shard."""
    from underseal_server.cluster.executor import RayExecutor
    from underseal_server.cluster.fleet import Cluster, Fleet

    async def scored(
        executor: RayExecutor, probes: list[ReadyProbe], numbers: tuple[int, ...]
    ) -> dict[int, tuple[bytes, ...]]:
        async with aclosing(executor.score(gallery, probes, numbers)) as blocks:
            return {one.block: tuple(s.data for s in one.sealed) async for one in blocks}

    async def main(threads: Threads) -> None:
        cluster = Cluster(address="", threads=1, probe_bytes=0, namespace="test")
        fleet = Fleet(cluster, Checkpoints.of(store.folder, None))
        await fleet.start()
        try:
            async with asyncio.timeout(PATIENCE):
                while not fleet.size:  # noqa: ASYNC110  # of Ray
                    await asyncio.sleep(0.05)
                executor = RayExecutor(fleet, keys, threads)
                here = prepare_probes(gallery.evaluator, [shards.PROBE])[0]
                there = [replace(here, expanded=None)]
                wanted = {n: shards.expected(gallery, probe, n) for n in range(shards.COUNT)}
                assert await scored(executor, there, (0,)) == {0: wanted[0]}
                for number in (1, 2):
                    there += await executor.prepare(gallery, [shards.PROBE])
                    assert there[-1].norm == here.norm
                    found = await scored(executor, there, (0, number))
                    assert found == {n: len(there) * wanted[n] for n in (0, number)}
        finally:
            await fleet.close()

    threads = Threads()
    threads.compute.shutdown()
    try:
        asyncio.run(main(threads))
    finally:
        threads.close()
        keys.close()
