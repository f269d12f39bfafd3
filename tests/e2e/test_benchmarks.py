"""Every benchmark runs, finds its answers right, and prints the record that its type promises.

They are run at the smallest size; nothing is said here about how long anything takes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from benchmarks import engine, enrolment, load, log, migration, oversight, scale, service
from benchmarks.galleries import MODEL
from benchmarks.hardware import hardware
from benchmarks.inputs import inputs
from benchmarks.peers import __main__ as peers
from benchmarks.peers import lightphe_dot
from benchmarks.peers.measuring import SYSTEMS, system_named
from benchmarks.record import Record, to_json, to_text
from benchmarks.traffic.target import Target
from underseal_client import wire
from underseal_client.demo.council import free_addresses
from underseal_client.demo.deployment import Deployment, Plan
from underseal_client.records import Sealed, SealedKind, SearchPart
from underseal_proto.v1 import search_pb2

ROOT = Path(__file__).resolve().parents[2]
PNG = b"\x89PNG"
SMALL = ("--profile", "swift", "--dim", "8")


def run(name: str, *arguments: object) -> str:
    """Run a benchmark as ``make bench`` does; return what it printed."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(figures: Any, text: str) -> Any:
    """Return the record's figures, of the type given; no field is missing or too many."""
    record = TypeAdapter(Record[figures]).validate_json(text, strict=True)
    assert json.loads(to_json(record)) == json.loads(text)
    assert record.problems == ()
    assert record.hardware.cores >= 1
    return record.figures


def recorded(name: str, figures: Any) -> Any:
    """Check figures that were measured in this process."""
    record = Record(name, "2026-11-22T00:00:00+00:00", {}, figures, (), hardware())
    assert to_text(record).count("\n") > len(vars(figures))
    return read(type(figures), to_json(record))


@pytest.fixture(scope="module")
def metrics() -> str:
    """Where the deployment's server shows its metrics."""
    return free_addresses(1)[0]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, metrics: str) -> Iterator[Deployment]:
    """Server, registrar and two guardians, for all benchmarks that need some of them."""
    plan = Plan(
        64,
        {MODEL: "0.6"},
        (service.GALLERY, oversight.GALLERY, *migration.GALLERIES),
        profile="swift",
        purpose=service.PURPOSE,
        clients=("agency", "bureau"),
        guardians=2,
        threshold=2,
    )
    with Deployment(tmp_path_factory.mktemp("deployment"), plan) as running:
        running.make_keys()
        running.start("--metrics-listen", metrics)
        yield running


def test_engine() -> None:
    sizes = ("--templates", 10_000, "--distinct", 2, "--probes", 3, "--repeat", 2)
    figures = read(engine.Report, run("engine", *SMALL, *sizes))
    assert (figures.profile, figures.dimension, figures.templates) == ("swift", 8, 10_000)
    assert 0 < figures.rms_error <= figures.max_error <= figures.error_bound
    assert figures.us_per_comparison > 0
    assert figures.batch_probes == 3
    assert figures.batch_us_per_comparison > 0
    assert figures.multiplications_per_comparison == 4 * 8 * 2
    assert figures.share_of_stream > 0
    assert figures.share_of_multiply > 0


def test_log() -> None:
    figures = read(log.Report, run("log", "--entries", 400))
    assert figures.entries == 400
    assert figures.receipt_ms.low <= figures.receipt_ms.median <= figures.receipt_ms.high


@pytest.mark.parametrize(("templates", "rows", "units"), [(4100, 0, 5), (2600, 9, 12)])
def test_scale(tmp_path: Path, templates: int, rows: int, units: int) -> None:
    sizes = ("--templates", templates, "--rows", rows, "--searches", 1, "--folder", tmp_path)
    figures = read(scale.Report, run("scale", *SMALL, *sizes))
    assert (figures.blocks, figures.units) == (2, units)
    assert 0 < figures.max_error <= figures.error_bound
    assert list(tmp_path.iterdir()) == []


def test_service(deployment: Deployment) -> None:
    figures = recorded("service", service.measure(deployment, templates=40, searches=2, rounds=2))
    assert figures.correct == figures.searches == 2
    assert figures.accepted == figures.answers == 2 * service.IN_A_ROUND
    assert figures.engine_ms.median > 0


def test_oversight(deployment: Deployment) -> None:
    measured = oversight.Bench(deployment, templates=40, searches=2).measure()
    figures = recorded("oversight", measured)
    assert figures.correct == figures.searches == 2
    assert figures.guardians == 2


def test_enrolment(deployment: Deployment) -> None:
    options = Namespace(profile="swift", dim=64, rows=2, columns=1, sizes=[3], cores=2)
    figures = recorded("enrolment", enrolment.measure(enrolment.Bench(deployment), options))
    rows, few, many = figures.costs
    assert rows.templates == 2 * few.templates < many.templates
    assert figures.client[0].templates == 3
    assert figures.client[0].of_best > 0


def test_load(deployment: Deployment, metrics: str, tmp_path: Path) -> None:
    target = Target(deployment, templates=40, probes=2, deadline=30.0)
    options = Namespace(templates=40, probes=2, seconds=0.4, minutes=0.01)
    measured = load.measure(target, metrics, deployment.plan, options)
    target.close()
    figures = recorded("load", measured)
    assert figures.problems() == []
    steps = (*figures.closed, *figures.open, figures.endurance.step)
    assert [step.accepted + step.shed for step in steps] == [step.sent for step in steps]
    assert all(step.accepted > 0 for step in figures.closed)
    assert figures.samples[-1].server_cpu_seconds >= figures.samples[0].server_cpu_seconds > 0
    record = Record("load", "", {}, measured, (), hardware())
    load.write(record, tmp_path)
    assert (tmp_path / "load.png").read_bytes().startswith(PNG)


def test_load_notices_altered_answers(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target(deployment, templates=3, probes=1, deadline=30.0)
    honest = wire.search_parts_from_wire
    assert target.ask(0).status == "accepted"

    def altered(message: search_pb2.SearchResponse) -> list[SearchPart]:
        return [changed(part) for part in honest(message)]

    def changed(part: SearchPart) -> SearchPart:
        if isinstance(part, Sealed) and part.kind is SealedKind.RESULT:
            last = part.ciphertext[-1] ^ 1
            return replace(part, ciphertext=part.ciphertext[:-1] + bytes([last]))
        return part

    monkeypatch.setattr(wire, "search_parts_from_wire", altered)
    assert target.ask(0).status == "wrong"
    target.close()


def test_migration(deployment: Deployment, metrics: str) -> None:
    """Client and server are killed on the way, and everything is there once."""
    measured, problems = migration.measure(deployment, templates=500, smallest=None)
    deployment.start_server("--metrics-listen", metrics, listen=deployment.server_address)
    assert problems == []
    figures = recorded("migration", measured)
    assert figures.units == 8
    assert (figures.killed.codes[0], figures.killed.codes[-1]) == (-9, 0)
    assert "all sound" in figures.check


def test_peers(tmp_path: Path) -> None:
    small = ("--dim", 8, "--templates", 4, "--threads", 2, "--out", tmp_path)
    figures = read(peers.Report, run("peers", *small, "--systems", "numpy,swift,seal"))
    assert [one.about.package for one in figures.systems] == ["numpy", "underseal", "tenseal"]
    for one in figures.systems:
        assert one.max_error <= one.about.tolerance
        assert [cost.threads for cost in one.costs] == [2]
    assert (tmp_path / "peers.png").read_bytes().startswith(PNG)
    assert (tmp_path / "peers.md").read_text().count("| Underseal swift |") == 2


def test_all_of_them_make_one_report(tmp_path: Path) -> None:
    small = ("--dim", 64, "--templates", 40, "--searches", 1)
    command = (sys.executable, "-m", "benchmarks", *small, "--systems", "numpy,swift")
    subprocess.run([*map(str, command), "--out", tmp_path], check=True, timeout=300)
    report = (tmp_path / "report.md").read_text()
    assert "| Underseal swift |" in report
    assert all(f"| `{profile}` | " in report for profile in ("swift", "compact", "guarded"))
    assert "the service adds" in report
    assert (tmp_path / "peers.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("name", SYSTEMS)
def test_peers_find_the_scores_of_the_plaintext(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightphe_dot, "KEY_BITS", 256)  # it takes minutes with secure ones
    given = inputs(3, 8)
    system = system_named(name)(given)
    found = system.open(system.compare(system.prepare(system.query(), 1), 1))
    error = abs(found - given.templates @ given.probe).max()
    assert error <= system.about.tolerance
    assert error < 0.01 < abs(found).max()
    sizes = system.sizes()
    assert sizes.template > 0 < sizes.query
