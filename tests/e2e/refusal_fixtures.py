"""A gallery that calls which must fail are made against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from tests.e2e.people import people
from tests.e2e.refusals import Asker, Filled, Refusal, scores, units
from underseal_client import Client
from underseal_client import gallery as galleries
from underseal_client.connection import Connection
from underseal_client.demo.deployment import Deployment
from underseal_client.records import Gallery
from underseal_core.bundle import load_bundle
from underseal_core.rpc.status import HINT_KEY
from underseal_core.scheme.encryption import Encryptor
from underseal_core.statements import Pin


@pytest.fixture(scope="session")
def encryptor(deployment: Deployment) -> Encryptor:
    bundle = load_bundle(deployment.bundle)
    return Encryptor(bundle.profile, bundle.dimension, bundle.public_key)


@pytest.fixture(scope="session")
def agency(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("agency")
    settings = deployment.settings(state=folder / "state", subject_key=folder / "key")
    with Client(settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def keeper(
    agency: Client,
    deployment: Deployment,
    pin: Pin,
    names: Iterator[str],
    encryptor: Encryptor,
) -> Iterator[Filled]:
    before = units(deployment.server_data)
    with Connection(agency.settings) as connection:
        name = galleries.create(connection, next(names), pin).name
    agency.enroll_templates(name, people(5, seed=50))
    files = tuple(sorted(units(deployment.server_data) - before))
    assert len(files) == 1
    gallery = agency.gallery(name)
    probe = encryptor.encrypt_probe(people(1, seed=58)[0].vector).to_bytes()
    before_scores = scores(agency, gallery, probe)
    yield Filled(gallery, files)
    assert scores(agency, gallery, probe) == before_scores
    agency.delete_gallery(name)


@pytest.fixture
def filled(keeper: Filled) -> Gallery:
    return keeper.gallery


@pytest.fixture
def refused(
    agency: Client, keeper: Filled, deployment: Deployment
) -> Callable[[Callable[[], object]], Refusal]:
    """Run a call that must fail, and check that gallery and files stay as they are."""

    def check(call: Callable[[], object]) -> Refusal:
        before = keeper.state(agency)
        with pytest.raises(grpc.RpcError) as raised:
            call()
        assert keeper.state(agency) == before
        error: Any = raised.value
        hints = dict(error.trailing_metadata() or ())
        text = error.details()
        assert text
        assert str(deployment.folder) not in text
        return Refusal(error.code(), text, str(hints.get(HINT_KEY, "")))

    return check


@pytest.fixture(scope="session")
def row(encryptor: Encryptor) -> bytes:
    """A sound row of one template."""
    return encryptor.encrypt_row(people(1, seed=51)[0].vector[None, :]).to_bytes()


@pytest.fixture
def asker(connection: Connection, filled: Gallery, encryptor: Encryptor) -> Asker:
    probe = encryptor.encrypt_probe(people(1, seed=54)[0].vector).to_bytes()
    return Asker(connection, filled, probe)
