"""An auditor's replica when k auditors have erased templates: it swaps and forgets, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.auditor_world import CLIENT, GALLERY, Operator, World, world
from tests.redaction_oracle import amendment_of
from underseal_auditor.mirror import Mirror
from underseal_auditor.replica import Replica
from underseal_auditor.store.database import Database
from underseal_core.errors import Damaged, Mismatch

ENROLLERS = {"agency": CLIENT.public_key}
SECOND = 1
"""The unit of five templates; those of the first come before them."""


@pytest.fixture(scope="module")
def of() -> World:
    return world("swift", 2, 3)


@pytest.fixture
def operator(of: World) -> Operator:
    return of.operator.copy()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "auditor.sqlite")
    yield database
    database.close()


def replica_at(of: World, folder: Path, database: Database, operator: Operator) -> Replica:
    return of.replica(folder, Mirror(database, rosters=[of.roster]), operator)


def follow(replica: Replica, operator: Operator) -> None:
    replica.follow("server", GALLERY, operator.pin_, ENROLLERS)


def remove(operator: Operator, *places: int) -> None:
    token = operator.units[SECOND].token
    for index, entry in enumerate(operator.entries):
        if entry.unit_token == token and entry.place in places:
            operator.remove(index)


def unit_files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.unit")}


def holds(replica: Replica, operator: Operator) -> None:
    with replica.at("server", operator.snapshot(), operator.pin_, ENROLLERS) as (_, folded):
        for block, tiles in folded.tiles.items():
            assert np.array_equal(tiles, operator.tiles[block])


def test_the_old_ciphertexts_leave_the_replica(
    of: World, operator: Operator, database: Database, tmp_path: Path
) -> None:
    replica = replica_at(of, tmp_path, database, operator)
    follow(replica, operator)
    old, before = f"{operator.units[SECOND].token.hex()}.unit", operator.snapshot()
    assert old in unit_files(tmp_path)
    remove(operator, 1, 4)
    operator.amend(SECOND, *amendment_of(of, operator, SECOND, (1, 4)))
    follow(replica, operator)
    holds(replica, operator)
    assert old not in unit_files(tmp_path)
    assert f"{operator.units[SECOND].name.hex()}.unit" in unit_files(tmp_path)
    with (
        pytest.raises(Mismatch, match="changed since"),
        replica.at("server", before, operator.pin_, ENROLLERS),
    ):
        pass
    # A second time, and after a restart in between.
    remove(operator, 0)
    operator.amend(SECOND, *amendment_of(of, operator, SECOND, (0, 1, 4)))
    again = replica_at(of, tmp_path, database, operator)
    follow(again, operator)
    holds(again, operator)
    assert len(unit_files(tmp_path)) == 2


def test_a_restart_between_catalogue_and_blocks(
    of: World, operator: Operator, database: Database, tmp_path: Path
) -> None:
    """The catalogue is up to date, the blocks still hold the old columns: both agree at the end."""
    replica = replica_at(of, tmp_path, database, operator)
    follow(replica, operator)
    replica.checkpoint()
    remove(operator, 2)
    operator.amend(SECOND, *amendment_of(of, operator, SECOND, (2,)))
    replica.mirror.update("server", GALLERY, operator, operator.pin_, ENROLLERS)
    again = replica_at(of, tmp_path, database, operator)
    follow(again, operator)
    holds(again, operator)
    assert len(unit_files(tmp_path)) == 2


def test_whoever_comes_later_takes_the_last_amendment(
    of: World, operator: Operator, database: Database, tmp_path: Path
) -> None:
    for erased in ((3,), (0, 3)):
        remove(operator, *erased[:1])
        operator.amend(SECOND, *amendment_of(of, operator, SECOND, erased))
    late = replica_at(of, tmp_path, database, operator)
    follow(late, operator)
    holds(late, operator)
    attested = late.mirror.attested("server", GALLERY, operator.units[SECOND].token)
    assert attested.unit.sha256 == operator.units[SECOND].sha256
    assert attested.unit.erased == (0, 3)


def test_amended_while_it_was_fetched(
    of: World, operator: Operator, database: Database, tmp_path: Path
) -> None:
    """The catalogue said one hash, the server has the next one by then."""
    replica = replica_at(of, tmp_path, database, operator)
    remove(operator, 1)
    parts, amendment = amendment_of(of, operator, SECOND, (1,))
    fetched: list[bytes] = []
    original = operator.unit

    def meanwhile(gallery: str, token: bytes, epoch: str = "") -> Iterator[bytes]:
        if not fetched and token == operator.units[SECOND].token:
            fetched.append(token)
            operator.amend(SECOND, parts, amendment)
        return original(gallery, token, epoch)

    operator.unit = meanwhile  # type: ignore[method-assign]  # a server in motion
    follow(replica, operator)
    assert fetched
    holds(replica, operator)


def test_an_older_amendment_does_not_come_back(
    of: World, operator: Operator, database: Database, tmp_path: Path
) -> None:
    replica = replica_at(of, tmp_path, database, operator)
    remove(operator, 0, 1)
    first = amendment_of(of, operator, SECOND, (0,))
    other = operator.copy()
    operator.amend(SECOND, *first)
    operator.amend(SECOND, *amendment_of(of, operator, SECOND, (0, 1)))
    follow(replica, operator)
    operator.amend(SECOND, *first)
    with pytest.raises(Damaged, match="amendment"):
        follow(replica, operator)
    assert other.amended == []
