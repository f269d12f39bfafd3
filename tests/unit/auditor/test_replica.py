"""An auditor's replica: what it holds at each version, and what it does after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.auditor_world import CLIENT, GALLERY, Operator, World, world
from underseal_auditor.mirror import Mirror
from underseal_auditor.replica import Replica
from underseal_auditor.store.database import Database
from underseal_core.errors import Mismatch

ENROLLERS = {"agency": CLIENT.public_key}


@pytest.fixture
def of() -> World:
    return world("swift")


@pytest.fixture
def operator(of: World) -> Operator:
    return of.operator.copy()


@pytest.fixture
def replica(of: World, operator: Operator, tmp_path: Path) -> Iterator[Replica]:
    database = Database(tmp_path / "auditor.sqlite")
    yield of.replica(tmp_path, Mirror(database), operator)
    database.close()


def follow(replica: Replica, operator: Operator) -> None:
    replica.follow("server", GALLERY, operator.pin_, ENROLLERS)


def remove_second_unit(operator: Operator) -> None:
    for index, entry in enumerate(operator.entries):
        if entry.unit_token == operator.units[1].token:
            operator.remove(index)


def test_blocks_are_those_of_the_snapshot_also_when_the_gallery_went_on(
    replica: Replica, operator: Operator
) -> None:
    before = operator.snapshot()
    follow(replica, operator)
    remove_second_unit(operator)
    follow(replica, operator)
    with replica.at("server", operator.snapshot(), operator.pin_, ENROLLERS) as (view, folded):
        assert set(folded.tiles) == {0}
        assert view.templates == len(operator.live())
    with replica.at("server", before, operator.pin_, ENROLLERS) as (_, folded):
        assert np.array_equal(folded.tiles[0], operator.tiles[0])
        assert np.array_equal(folded.tiles[1], operator.tiles[1])
    replica.checkpoint()  # forgets the unit that has left
    with (
        pytest.raises(Mismatch, match="has changed since"),
        replica.at("server", before, operator.pin_, ENROLLERS),
    ):
        pass


@pytest.mark.parametrize("where", ["header", "tiles"])
def test_damaged_checkpoint_is_made_again_from_its_units(
    of: World, replica: Replica, operator: Operator, tmp_path: Path, where: str
) -> None:
    follow(replica, operator)
    replica.checkpoint()
    operator.sent = {}  # a server that has nothing more to send
    paths = sorted(tmp_path.rglob("*.tiles"))
    assert len(paths) == len(operator.tiles)
    for path in paths:
        data = bytearray(path.read_bytes())
        data[60 if where == "header" else -9] ^= 4
        path.write_bytes(data)
    again = of.replica(tmp_path, replica.mirror, operator)
    follow(again, operator)
    with again.at("server", operator.snapshot(), operator.pin_, ENROLLERS) as (_, folded):
        for block, tiles in operator.tiles.items():
            assert np.array_equal(folded.tiles[block], tiles)


@pytest.mark.parametrize("written", [True, False], ids=["checkpoint", "killed before it"])
def test_restarted_replica_fetches_nothing_again(
    of: World, replica: Replica, operator: Operator, tmp_path: Path, written: bool
) -> None:
    follow(replica, operator)
    if written:
        replica.checkpoint()
    operator.sent = {}  # a server that has nothing more to send
    again = of.replica(tmp_path, replica.mirror, operator)
    snapshot = operator.snapshot()
    if not written:
        follow(again, operator)
    with again.at("server", snapshot, operator.pin_, ENROLLERS) as (_, folded):
        assert np.array_equal(folded.tiles[0], operator.tiles[0])
