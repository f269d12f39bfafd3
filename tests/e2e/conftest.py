"""The whole service as processes on loopback: real ceremony, mutual TLS, files on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e import refusal_fixtures
from tests.e2e.people import DIMENSION, MODEL, ZOO
from underseal_client import Client
from underseal_client import gallery as galleries
from underseal_client.connection import Connection
from underseal_client.demo.council import AUDITOR_PROGRAM
from underseal_client.demo.deployment import Deployment, Plan
from underseal_client.demo.process import run_program
from underseal_client.records import Gallery
from underseal_client.settings import ClientSettings
from underseal_core.bundle import load_bundle
from underseal_core.errors import NotFound
from underseal_core.statements import Pin

agency = refusal_fixtures.agency
asker = refusal_fixtures.asker
encryptor = refusal_fixtures.encryptor
filled = refusal_fixtures.filled
keeper = refusal_fixtures.keeper
refused = refusal_fixtures.refused
row = refusal_fixtures.row

WITNESS = "witness"
"""Folder of the log's witness, below the deployment's."""

GALLERIES = tuple(f"gallery-{number:02}" for number in range(60))
"""Names that the policy allows to search; each test takes its own."""


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Server and registrar, profile guarded, two clients: agency and bureau."""
    plan = Plan(
        dimension=DIMENSION,
        models={ZOO: "0.45", MODEL: "0.6"},
        galleries=GALLERIES,
        purpose="tests",
        clients=("agency", "bureau"),
        enrolled_probes=True,
    )
    with Deployment(tmp_path_factory.mktemp("deployment"), plan) as running:
        running.hold_ceremony()
        running.write_policy()
        with running.policy.open("a", encoding="utf-8") as policy:
            policy.write("\n[quotas]\nsearches_per_day = 100000\n")  # many tests, one client
        running.sign_policy()
        running.start_server()
        witness = running.folder / WITNESS
        named = ["--out", witness, "--name", "witness.example/one"]
        run_program(AUDITOR_PROGRAM, "witness", "create", *named)
        running.start_registrar("--witness", witness / "witness.vkey")
        yield running


@pytest.fixture(scope="session")
def names() -> Iterator[str]:
    """Gallery names that nobody has used."""
    return iter(GALLERIES)


@pytest.fixture
def settings(deployment: Deployment, tmp_path: Path) -> ClientSettings:
    """Settings of the agency, with a state of the test's own."""
    return deployment.settings(
        "agency", state=tmp_path / "client.sqlite", subject_key=tmp_path / "subject.key"
    )


@pytest.fixture
def client(settings: ClientSettings) -> Iterator[Client]:
    with Client(settings) as opened:
        yield opened


@pytest.fixture
def connection(settings: ClientSettings) -> Iterator[Connection]:
    """Raw access to the services, as the agency."""
    with Connection(settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def pin(deployment: Deployment) -> Pin:
    """What galleries of ready-made templates are pinned to."""
    return Pin(
        model_id=MODEL,
        model_dimension=DIMENSION,
        profile=deployment.plan.profile,
        key_epoch=load_bundle(deployment.bundle).epoch,
    )


@pytest.fixture
def gallery(connection: Connection, pin: Pin, names: Iterator[str]) -> Iterator[Gallery]:
    """An empty gallery of the test's own; deleted afterwards, for a block has 34 MB."""
    made = galleries.create(connection, next(names), pin)
    yield made
    with suppress(NotFound):
        galleries.delete(connection, made.name)
