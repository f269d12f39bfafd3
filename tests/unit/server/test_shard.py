"""What runs on the machines of a cluster, without the cluster."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from tests import store_fixtures
from tests.s3_fixtures import SECRET, S3Server
from tests.server_fixtures import unit_vectors
from tests.store_fixtures import LAB, enrol, opened
from tests.unit.server.kill_child import Place
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.evaluation import Evaluator, Probe
from underseal_server.cluster.checkpoints import Checkpoints, Piece
from underseal_server.cluster.probes import Probes, Row
from underseal_server.cluster.shard import Shard
from underseal_server.engine.executor import ThreadExecutor, prepare_probes
from underseal_server.engine.threads import Threads
from underseal_server.store.bucket import Location
from underseal_server.store.folders import BLOCKS, part_name
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.store import Store

COUNT = 3
PROBE = LAB.probe(unit_vectors(1)[0])
ROW, ANOTHER = Row(b"one", PROBE.to_bytes()), Row(b"another", PROBE.to_bytes())

evaluator, store = store_fixtures.evaluator, store_fixtures.store


@pytest.fixture
def gallery(store: Store, evaluator: Evaluator) -> GalleryStore:
    return filled(store, evaluator)


@pytest.fixture
def probe(evaluator: Evaluator) -> Probe:
    return evaluator.prepare(PROBE).probe


def filled(store: Store, evaluator: Evaluator) -> GalleryStore:
    """A gallery of three blocks, saved."""
    gallery = opened(store, evaluator)
    for number in range(COUNT):
        enrol(gallery, Shape.COLUMNS, unit_vectors(4000, seed=number))
    gallery.checkpoint()
    return gallery


def piece(gallery: GalleryStore, number: int) -> Piece:
    place = part_name(BLOCKS, gallery.gallery.id, LAB.bundle.epoch)
    root, size = gallery.saved_root(number), gallery.tiles(number).nbytes
    return Piece(LAB.bundle.epoch, place, number, root, size)


def shard(checkpoints: Checkpoints, limit: int = 1 << 30, probes_limit: int = 1 << 30) -> Shard:
    made = Shard(checkpoints, limit, probes_limit, threads=1)
    made.learn(LAB.bundle.epoch, LAB.profile, LAB.dimension, LAB.bundle.keys)
    return made


def expected(gallery: GalleryStore, probe: Probe, number: int) -> tuple[bytes]:
    return (gallery.evaluator.score(probe, gallery.tiles(number)).to_bytes(),)


def test_a_shard_finds_what_the_server_finds_and_reads_a_block_once(
    store: Store, gallery: GalleryStore, probe: Probe
) -> None:
    made = shard(Checkpoints.of(store.folder, None))
    pieces = [piece(gallery, number) for number in range(COUNT)]
    for _ in range(2):
        found = made.score([ROW, ANOTHER], pieces)
        assert found == [2 * expected(gallery, probe, number) for number in range(COUNT)]
    assert made.held() == pieces
    assert made.reads() == COUNT
    assert made.score([ROW], 2 * pieces) == 2 * [expected(gallery, probe, n) for n in range(COUNT)]


def test_probes_that_were_used_last_stay_expanded(evaluator: Evaluator, probe: Probe) -> None:
    probes = Probes(2 * probe.tiles.nbytes)
    first, second = probes.get(evaluator, ROW), probes.get(evaluator, ANOTHER)
    assert np.array_equal(first.tiles, probe.tiles)
    assert probes.get(evaluator, ROW) is first
    assert probes.prepare(evaluator, replace(ROW, name=b"third")) is not None
    assert probes.get(evaluator, ROW) is first
    assert probes.get(evaluator, ANOTHER) is not second
    probes.drop([ROW.name, b"never seen"])
    assert probes.get(evaluator, ROW) is not first


def test_a_probe_that_shards_have_is_expanded_for_blocks_that_the_server_scores(
    gallery: GalleryStore, probe: Probe
) -> None:
    elsewhere = replace(prepare_probes(gallery.evaluator, [PROBE])[0], expanded=None)

    async def scored(threads: Threads) -> dict[int, tuple[bytes, ...]]:
        async with aclosing(ThreadExecutor(threads).score(gallery, [elsewhere], (0, 2))) as blocks:
            return {one.block: tuple(s.data for s in one.sealed) async for one in blocks}

    threads = Threads()
    try:
        found = asyncio.run(scored(threads))
    finally:
        threads.close()
    assert found == {number: expected(gallery, probe, number) for number in (0, 2)}


def test_a_block_that_changed_is_read_again_and_what_it_was_is_refused(
    store: Store, gallery: GalleryStore, probe: Probe
) -> None:
    made = shard(Checkpoints.of(store.folder, None))
    before = piece(gallery, 0)
    made.score([ROW], [before])
    enrol(gallery, Shape.ROW, unit_vectors(1, seed=9))
    assert gallery.saved_root(0) == ""
    gallery.checkpoint()
    after = piece(gallery, 0)
    assert after.root != before.root
    assert made.score([ROW], [after]) == [expected(gallery, probe, 0)]
    assert made.score([ROW], [before, piece(gallery, 1)]) == [
        None,
        expected(gallery, probe, 1),
    ]


def test_memory_is_bounded_and_forgotten_blocks_leave_it(
    store: Store, gallery: GalleryStore, probe: Probe
) -> None:
    pieces = [piece(gallery, number) for number in range(COUNT)]
    made = shard(Checkpoints.of(store.folder, None), limit=2 * pieces[0].size)
    for one in pieces:
        made.load([one])
    assert made.held() == pieces[1:]
    made.forget(pieces[0].place, {1})
    assert made.held() == pieces[2:]
    made.forget("blocks/7/other", None)
    assert made.held() == pieces[2:]
    made.forget(pieces[0].place, None)
    assert made.held() == []
    assert made.score([ROW], pieces) == [expected(gallery, probe, n) for n in range(COUNT)]


def test_blocks_come_from_the_bucket_with_the_machines_own_access_key(
    s3: S3Server,
    evaluator: Evaluator,
    probe: Probe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    location: Location = s3.bucket()
    store = Place(str(tmp_path / "data"), objects=astuple(location)).open()
    gallery = filled(store, evaluator)
    checkpoints = Checkpoints.of(store.folder, location)
    assert checkpoints.objects == replace(location, key_id="", secret="")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    made = shard(checkpoints)
    pieces = [piece(gallery, number) for number in range(COUNT)]
    assert made.score([ROW], pieces) == [expected(gallery, probe, n) for n in range(COUNT)]
    store.close()
