"""The real program with its catalogue in PostgreSQL and its files in object storage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.test_server_operation import LAB, command, running
from tests.postgres_fixtures import Cluster
from tests.s3_fixtures import S3Server
from tests.server_fixtures import Vectors, unit_vectors
from tests.server_harness import Caller, calling, make_credentials
from tests.tcp_line import Line
from underseal_core.errors import Busy
from underseal_core.gallery.unit import Shape

VECTORS = unit_vectors(9)


@pytest.fixture
def line(s3: S3Server) -> Iterator[Line]:
    """The server's way to the object storage."""
    line = Line(int(s3.endpoint.rpartition(":")[2]))
    yield line
    line.cut()


@pytest.fixture
def root(tmp_path: Path, postgres: Cluster, s3: S3Server, line: Line) -> Path:
    """A folder with credentials, settings and a data folder that has the bundle."""
    make_credentials(tmp_path / "credentials")
    LAB.bundle.save(tmp_path / "bundle.usb")
    location = s3.bucket()
    (tmp_path / "catalogue.url").write_text(postgres.create())
    (tmp_path / "server.toml").write_text(
        f'catalogue_file = "{tmp_path}/catalogue.url"\n'
        f'objects = "{location.url}"\n'
        f'objects_endpoint = "http://127.0.0.1:{line.port}"\n'
        f'objects_region = "{location.region}"\n'
        f'objects_key_id = "{location.key_id}"\n'
        f'objects_secret = "{location.secret}"\n'
        f'bundles = ["{tmp_path}/bundle.usb"]\n'
    )
    return tmp_path


def found(agency: Caller, slots: list[int], count: int, probe: Vectors) -> bool:
    """Whether a search has the scores of the first vectors right, in their slots."""
    scores = agency.scores(agency.search(probe))[0]
    return bool(np.abs(scores[slots] - VECTORS[:count] @ probe).max() < 2**-8)


def test_search_over_postgresql_and_s3_also_on_another_machine(root: Path) -> None:
    config = ("--config", root / "server.toml")
    with (
        running(root, *config) as program,
        calling(program.port, root / "credentials/agency") as agency,
    ):
        agency.create()
        _, row = agency.enrol(VECTORS[:2])
        _, bulk = agency.enrol(VECTORS[2:8], Shape.COLUMNS)
        places = [(one.first_slot, one.slot_step) for one in (row, bulk)]
        slots = [places[0][0] + i * places[0][1] for i in range(2)]
        slots += [places[1][0] + i * places[1][1] for i in range(6)]
        assert found(agency, slots, 8, VECTORS[5])
        before = agency.state()
        program.process.kill()
        program.process.wait()
        program.process.returncode = 0
    shutil.rmtree(root / "data")  # the machine is gone
    with (
        running(root, *config) as program,
        calling(program.port, root / "credentials/agency") as agency,
    ):
        after = agency.state()
        assert (after.version, after.snapshot_root) == (before.version, before.snapshot_root)
        assert found(agency, slots, 8, VECTORS[5])
    said = command("check", *config, "--data", root / "data", "--deep")
    assert "8 templates in 2 units, 1 blocks" in said and "all sound" in said
    log = (root / "server.log").read_text()
    assert "s3cret" not in log and "tester" not in log


def test_what_goes_on_while_storage_or_database_are_away(
    root: Path, line: Line, postgres: Cluster
) -> None:
    with (
        running(root, "--config", root / "server.toml") as program,
        calling(program.port, root / "credentials/agency") as agency,
    ):
        agency.create()
        _, row = agency.enrol(VECTORS[:2])
        slots = [row.first_slot, row.first_slot + row.slot_step]
        assert found(agency, slots, 2, VECTORS[1])
        before = agency.state()

        line.cut()
        assert found(agency, slots, 2, VECTORS[1]), "blocks are here"
        with pytest.raises(Busy, match="object storage cannot be reached"):
            agency.enrol(VECTORS[2:4])
        assert agency.state() == before, "nothing was answered that is not stored"
        line.restore()
        _, more = agency.enrol(VECTORS[2:4])
        slots += [more.first_slot, more.first_slot + more.slot_step]
        assert found(agency, slots, 4, VECTORS[3])

        postgres.stop()
        for attempt in (agency.state, lambda: agency.search(VECTORS[0])):
            with pytest.raises(Busy, match="database cannot be reached"):
                attempt()
        with pytest.raises(Busy, match="database cannot be reached"):
            agency.enrol(VECTORS[4:5])
        postgres.start()
        assert agency.state().templates == 4
        assert found(agency, slots, 4, VECTORS[3])
    command("check", "--config", root / "server.toml", "--data", root / "data", "--deep")
