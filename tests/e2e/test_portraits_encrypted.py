"""586 people, through the real server: rank 1 for everyone, scores as in plaintext."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.e2e.people import ZOO
from tests.face_fixtures import PortraitSet
from underseal_auditor.keys import share_file
from underseal_auditor.keys.decryption import Opener
from underseal_client import Client, TemplateRecord
from underseal_client import gallery as galleries
from underseal_client.connection import Connection
from underseal_client.demo.deployment import Deployment
from underseal_client.records import Gallery, SealedKind
from underseal_client.search import Question, SealedAnswer, ask_server, wanted
from underseal_core.bundle import load_bundle
from underseal_core.scheme.ciphertext import Kind, parse_ciphertext
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.profiles import GUARDED
from underseal_core.statements import Pin

LARGEST_DIFFERENCE = 1e-3
SMALL_NOISE = 1e-9
"""Far below what a release adds: here the encrypted score itself is measured."""


@pytest.fixture(scope="module")
def enrolled(
    deployment: Deployment,
    pin: Pin,
    names: Iterator[str],
    portrait_set: PortraitSet,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Client, Gallery]]:
    """Everybody's first photo, in rows."""
    state = tmp_path_factory.mktemp("portraits") / "client.sqlite"
    records = [
        TemplateRecord(portrait_set.people[index], portrait_set.templates[index])
        for index in portrait_set.gallery
    ]
    with Client(deployment.settings(state=state)) as client:
        with Connection(client.settings) as connection:
            zoo = pin.model_copy(update={"model_id": ZOO})
            name = galleries.create(connection, next(names), zoo).name
        report = client.enroll_templates(name, records)
        assert (report.enrolled, report.refused) == (586, [])
        yield client, client.gallery(name)
        client.delete_gallery(name)


def test_everyone_is_released_at_rank_one(
    enrolled: tuple[Client, Gallery], portrait_set: PortraitSet
) -> None:
    client, gallery = enrolled
    assert len(portrait_set.probes) == 20
    for index in portrait_set.probes:
        findings = client.search_template(
            portrait_set.templates[index], gallery=gallery.name, purpose="tests", case="T-1"
        )
        assert findings.release.compared == 586
        assert findings.found, portrait_set.people[index]
        assert findings.found[0].label.name == portrait_set.people[index]


def test_encrypted_scores_equal_plain_scores_in_every_pair(
    enrolled: tuple[Client, Gallery], portrait_set: PortraitSet, deployment: Deployment
) -> None:
    """20 x 586 pairs, opened with the ceremony's own share, which no client has."""
    client, gallery = enrolled
    bundle = load_bundle(deployment.bundle)
    encryptor = Encryptor(bundle.profile, bundle.dimension, bundle.public_key)
    people = [portrait_set.people[index] for index in portrait_set.gallery]
    slots = _slots(client, gallery, people)
    plain = (
        portrait_set.templates[portrait_set.probes] @ portrait_set.templates[portrait_set.gallery].T
    )
    opened = np.empty_like(plain)
    question = Question("tests", "T-1", wanted(1, None))
    with _share(deployment) as opener, Connection(client.settings) as connection:
        for number, index in enumerate(portrait_set.probes):
            probe = encryptor.encrypt_probe(portrait_set.templates[index]).to_bytes()
            answer = ask_server(connection, gallery, probe, question, timedelta(minutes=5))
            opened[number] = _open(opener, answer)[slots]
    difference = np.abs(opened - plain)
    assert difference.max() < LARGEST_DIFFERENCE
    assert difference.max() > 0.0
    assert list(opened.argmax(axis=1)) == [
        people.index(portrait_set.people[index]) for index in portrait_set.probes
    ]


def _slots(client: Client, gallery: Gallery, people: list[str]) -> npt.NDArray[np.int64]:
    """Return in which slot each person's template is; all of them fit one block."""
    stored = {entry.subject_id: entry for entry in client.templates(gallery.name)}
    entries = [stored[client.subject_id(gallery.name, person)] for person in people]
    assert {entry.block for entry in entries} == {0}
    return np.array([entry.slot for entry in entries])


class _Opened:
    """The auditor's share, open for the length of a test."""

    def __init__(self, folder: Path) -> None:
        bundle = load_bundle(folder / "keys" / "bundle.usb")
        passphrase = (folder / "passphrase").read_bytes()
        self._share = share_file.load(folder / "keys" / "share.sealed", passphrase, bundle.epoch)
        self._opener = Opener([self._share], bundle)

    def __enter__(self) -> Opener:
        return self._opener

    def __exit__(self, *_: object) -> None:
        self._share.close()


def _share(deployment: Deployment) -> _Opened:
    return _Opened(deployment.folder)


def _open(opener: Opener, answer: SealedAnswer) -> npt.NDArray[np.float64]:
    """Return the scores in the one block of an answer."""
    [result] = [entry for entry in answer.sealed if entry.kind is SealedKind.RESULT]
    ciphertext = parse_ciphertext(result.ciphertext, GUARDED, Kind.RESULT)
    return opener.open(ciphertext, SMALL_NOISE)
