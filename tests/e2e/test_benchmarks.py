"""Every benchmark runs, finds its answers right, and prints the record that its type promises.

They are run at the smallest size; nothing is said here about how long anything takes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from benchmarks import engine, enrolment, log, oversight, scale, service
from benchmarks.galleries import MODEL
from benchmarks.hardware import hardware
from benchmarks.record import Record, to_json, to_text
from underseal_client.demo.deployment import Deployment, Plan

ROOT = Path(__file__).resolve().parents[2]
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
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Server, registrar and two guardians, for all benchmarks that need some of them."""
    plan = Plan(
        64,
        {MODEL: "0.6"},
        (service.GALLERY, oversight.GALLERY),
        profile="swift",
        purpose=service.PURPOSE,
        guardians=2,
        threshold=2,
    )
    with Deployment(tmp_path_factory.mktemp("deployment"), plan) as running:
        running.make_keys()
        running.start()
        yield running


def test_engine() -> None:
    figures = read(engine.Report, run("engine", *SMALL, "--templates", 64, "--repeat", 2))
    assert (figures.profile, figures.dimension, figures.templates) == ("swift", 8, 64)
    assert 0 < figures.rms_error <= figures.max_error <= figures.error_bound
    assert figures.us_per_comparison > 0


def test_log() -> None:
    figures = read(log.Report, run("log", "--entries", 400))
    assert figures.entries == 400
    assert figures.receipt_ms.low <= figures.receipt_ms.median <= figures.receipt_ms.high


def test_scale(tmp_path: Path) -> None:
    sizes = ("--templates", 4100, "--searches", 1, "--folder", tmp_path)
    figures = read(scale.Report, run("scale", *SMALL, *sizes))
    assert figures.blocks == 2
    assert 0 < figures.max_error <= figures.error_bound
    assert list(tmp_path.iterdir()) == []


def test_service(deployment: Deployment) -> None:
    figures = recorded("service", service.measure(deployment, templates=40, searches=2))
    assert figures.correct == figures.searches == 2


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
