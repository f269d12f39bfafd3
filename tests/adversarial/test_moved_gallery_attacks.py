"""A server uses a change of keys to plant something else; guardians re-encrypt for themselves."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.plain_form import file_digest
from tests.server_fixtures import unit_vectors
from tests.server_harness import calling, make_credentials, serving
from tests.server_rotation import CouncilLab, succession
from underseal_auditor.connection import ServerCatalogue
from underseal_auditor.converted import EarlierUnits
from underseal_auditor.mirror import Mirror
from underseal_auditor.replica import Replica
from underseal_auditor.store.database import Database
from underseal_core.credentials import Credentials
from underseal_core.epochs import EarlierEpochs
from underseal_core.errors import Damaged
from underseal_server.engine.keys import KeyEpochs, SwitchingKeys
from underseal_server.settings import Settings

MOVE = succession()
OLD, NEW = CouncilLab.of(MOVE.old), CouncilLab.of(MOVE.new)
EARLIER = EarlierEpochs((MOVE.key,))
DEADLINE = 60.0


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    return make_credentials(tmp_path / "credentials")


@pytest.fixture
def settings(tmp_path: Path, credentials: Path) -> Settings:
    """A server whose gallery moved to new keys; it still keeps what was signed."""
    OLD.bundle.save(tmp_path / "old.usb")
    NEW.bundle.save(tmp_path / "new.usb")
    MOVE.key.save(tmp_path / "switching.usk")
    settings = Settings(
        listen="127.0.0.1:0",
        data=tmp_path / "data",
        credentials=credentials / "server",
        bundles=(tmp_path / "old.usb", tmp_path / "new.usb"),
        threads=1,
        save_seconds=0.05,
    )
    with serving(settings) as server, calling(server.port, credentials / "agency", OLD) as agency:
        agency.create()
        agency.enrol(unit_vectors(3))
        switching = SwitchingKeys(
            settings.data / "switching", KeyEpochs(settings.data / "bundles", 1)
        )
        switching.add(tmp_path / "switching.usk")
        deadline = time.monotonic() + DEADLINE
        while agency.state().pin.key_epoch != NEW.bundle.epoch:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    return settings


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "guardian.sqlite")) as database:
        yield database


def follow(settings: Settings, credentials: Path, database: Database, folder: Path) -> None:
    """What a guardian of the new keys does before it answers anything."""
    auditor = Credentials.load(credentials / "auditor")
    enrollers = {"agency": Credentials.load(credentials / "agency").identity.public_key}
    with serving(settings) as server, NEW.evaluator() as evaluator:
        source = ServerCatalogue(f"127.0.0.1:{server.port}", auditor)
        with closing(source):
            mirror = Mirror(database, EARLIER.ids)
            kept = EarlierUnits(NEW.bundle, EARLIER, {})
            replica = Replica(folder, mirror, evaluator, {"server": source}, kept)
            replica.follow("server", "missing", NEW.pin, enrollers)


def test_guardian_accepts_what_an_honest_server_moved(
    settings: Settings, credentials: Path, database: Database, tmp_path: Path
) -> None:
    follow(settings, credentials, database, tmp_path / "replica")
    (unit,) = (tmp_path / "replica/server/missing/units").glob("*.unit")
    (stored,) = (settings.data / "units/1" / NEW.bundle.epoch[:16]).glob("*.unit")
    assert unit.read_bytes() == stored.read_bytes()


def test_unit_exchanged_while_the_gallery_moved(
    settings: Settings, credentials: Path, database: Database, tmp_path: Path
) -> None:
    """Another face under the new keys, in the place of one that was signed; all hashes agree."""
    (stored,) = (settings.data / "units/1" / NEW.bundle.epoch[:16]).glob("*.unit")
    planted = NEW.row(unit_vectors(3, seed=9)).to_bytes()
    assert len(planted) == len(stored.read_bytes())
    stored.write_bytes(planted)
    with closing(sqlite3.connect(settings.data / "catalogue.sqlite")) as catalogue:
        catalogue.execute("UPDATE units SET sha256 = ?", (file_digest(planted),))
        catalogue.execute("DELETE FROM snapshots")  # it named the honest state to a client already
        catalogue.commit()
    for block in (settings.data / "blocks/1" / NEW.bundle.epoch[:16]).glob("*.tiles"):
        block.unlink()
    with serving(settings) as server, calling(server.port, credentials / "agency", NEW) as agency:
        (scores,) = agency.scores(agency.search(unit_vectors(3, seed=9)[0])).values()
        assert abs(scores[0] - 1) < 2**-8  # the lie is whole: clients would find the planted face
    with pytest.raises(Damaged, match="another unit than was enrolled"):
        follow(settings, credentials, database, tmp_path / "replica")
