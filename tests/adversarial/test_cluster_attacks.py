"""Whoever can write to the storage that a cluster's machines read, or is one of these machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests import store_fixtures
from tests.server_fixtures import unit_vectors
from tests.store_fixtures import LAB, enrol
from tests.unit.server import test_shard as shards
from underseal_core.gallery.block_file import read_header, write_block
from underseal_core.gallery.files import local_file
from underseal_core.gallery.tiles import tiles_root
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.ciphertext import Kind
from underseal_core.scheme.evaluation import Probe
from underseal_server.cluster.checkpoints import Checkpoints
from underseal_server.engine.executor import prepare_probes
from underseal_server.store.bucket import Location
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.store import Store

evaluator, store = store_fixtures.evaluator, store_fixtures.store
gallery, probe = shards.gallery, shards.probe


def test_a_shard_scores_no_block_but_the_one_that_the_server_named(
    store: Store, gallery: GalleryStore, probe: Probe
) -> None:
    """Everybody taken out, with checksums that fit; the block of before; another block."""
    piece = shards.piece(gallery, 0)
    made = shards.shard(Checkpoints.of(store.folder, None))
    path = store.folder / piece.name
    honest = path.read_bytes()
    header, _ = read_header(local_file(path))
    tiles = np.zeros_like(gallery.tiles(0))
    write_block(local_file(path), replace(header, tiles_root=tiles_root(tiles)), tiles)
    assert made.score([shards.ROW], [piece]) == [None]
    path.write_bytes(honest[:-1] + bytes([honest[-1] ^ 1]))
    assert made.score([shards.ROW], [piece]) == [None]
    path.write_bytes((store.folder / shards.piece(gallery, 1).name).read_bytes())
    assert made.score([shards.ROW], [piece]) == [None]
    path.write_bytes(honest)
    enrol(gallery, Shape.ROW, unit_vectors(1, seed=9))
    gallery.checkpoint()
    now = shards.piece(gallery, 0)
    path.write_bytes(honest)
    assert made.score([shards.ROW], [now]) == [None]
    path.unlink()
    assert made.score([shards.ROW], [now]) == [None]


def test_no_machine_of_the_cluster_gets_the_servers_access_key(tmp_path: Path) -> None:
    location = Location("s3://bucket/some", "", "eu", "key", "the secret access key")
    sent = Checkpoints.of(tmp_path, location)
    assert sent.objects is not None
    assert (sent.objects.key_id, sent.objects.secret) == ("", "")


def test_the_server_passes_nothing_on_that_is_no_result(
    gallery: GalleryStore, probe: Probe
) -> None:
    """What a machine answers is checked for its form here; guardians compute it again."""
    pytest.importorskip("ray", reason="install underseal[server,ray]")
    from underseal_server.cluster.executor import sealed_answer

    profile = gallery.gallery.profile
    (honest,) = shards.expected(gallery, probe, 0)
    kinds = (Kind.RESULT,)
    found = sealed_answer((honest,), kinds, profile)
    assert found is not None and [sealed.data for sealed in found] == [honest]
    row = LAB.row(unit_vectors(1)).to_bytes()
    for answer in ((b"",), (honest[:-1],), (honest[:-4] + b"\xff" * 4,), (row,), (), 2 * (honest,)):
        assert sealed_answer(answer, kinds, profile) is None
    ready = prepare_probes(gallery.evaluator, [shards.PROBE])[0]
    kinds = (Kind.NORM,)
    assert sealed_answer((ready.norm.data,), kinds, profile) == (ready.norm,)
    for answer in ((honest,), (row,), (), 2 * (ready.norm.data,)):
        assert sealed_answer(answer, kinds, profile) is None
