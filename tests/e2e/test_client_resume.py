"""Enrolment goes on where it stopped, and stores everything exactly once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.people import DIMENSION, MODEL, people
from underseal_client import Client, ClientSettings, TemplateRecord
from underseal_client import gallery as galleries
from underseal_client.connection import Connection
from underseal_client.demo.deployment import SERVER, Deployment, Plan
from underseal_client.enrolling import Unheard
from underseal_client.records import Gallery
from underseal_core.bundle import load_bundle
from underseal_core.errors import Busy
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.profiles import GUARDED
from underseal_core.statements import Pin

PEOPLE = 200  # four rows


def named(count: int = PEOPLE) -> list[TemplateRecord]:
    """People whose templates have a source, so that another run knows them."""
    return [replace(p, source=f"source {i}") for i, p in enumerate(people(count, seed=60))]


def assert_once(client: Client, gallery: str, count: int = PEOPLE) -> None:
    """Each person has one template, and is found with it."""
    stored = list(client.templates(gallery))
    wanted = {client.subject_id(gallery, person.subject) for person in named(count)}
    assert Counter(entry.subject_id for entry in stored) == Counter(dict.fromkeys(wanted, 1))
    for person in (named(count)[0], named(count)[-1]):
        findings = client.search_template(
            person.vector, gallery=gallery, purpose="tests", case="T-1"
        )
        assert [entry.label.name for entry in findings.found] == [person.subject]
        assert findings.release.compared == count


def test_second_run_skips_what_is_enrolled(client: Client, gallery: Gallery) -> None:
    first = client.enroll_templates(gallery.name, named(100))
    again = client.enroll_templates(gallery.name, named(120))
    assert (first.enrolled, first.skipped) == (100, 0)
    assert (again.enrolled, again.skipped) == (20, 100)
    assert_once(client, gallery.name, 120)


def test_removed_template_can_be_enrolled_again(client: Client, gallery: Gallery) -> None:
    client.enroll_templates(gallery.name, named(10))
    client.remove_subject(gallery.name, named(10)[4].subject)
    again = client.enroll_templates(gallery.name, named(10))
    assert (again.enrolled, again.skipped) == (1, 9)
    assert_once(client, gallery.name, 10)


def test_gallery_made_anew_is_enrolled_anew(
    client: Client, gallery: Gallery, connection: Connection
) -> None:
    client.enroll_templates(gallery.name, named(10))
    client.delete_gallery(gallery.name)
    galleries.create(connection, gallery.name, gallery.pin)
    report = client.enroll_templates(gallery.name, named(10))
    assert (report.enrolled, report.skipped) == (10, 0)


def test_subject_with_too_many_photos_does_not_stop_the_rest(
    client: Client, gallery: Gallery
) -> None:
    limit = gallery.max_templates_per_subject
    assert limit > 0
    crowd = [replace(person, subject="ada") for person in people(limit + 2, seed=61)]
    report = client.enroll_templates(gallery.name, [*crowd, *people(3, seed=62)])
    assert report.enrolled == limit + 3
    assert [entry.reason for entry in report.refused] == ["subject-full"] * 2
    more = client.enroll_templates(gallery.name, crowd[:1])
    assert (more.enrolled, len(more.refused)) == (0, 1)


PROGRAM = """
import os, signal, sys
from pathlib import Path
from tests.e2e.test_client_resume import named
from underseal_client import Client, ClientSettings
from underseal_client.enrolling import Unheard
from underseal_client.resume import ClientState

settings = ClientSettings.model_validate_json(sys.argv[1])
gallery, point, number = sys.argv[2], sys.argv[3], int(sys.argv[4])

def die_at(name, call):
    left = [number]
    def wrapped(*arguments):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments)
    return wrapped

if point == "before sending":
    import underseal_client.enrolment as enrolment
    enrolment.send_unit = die_at(point, enrolment.send_unit)
elif point == "before noting the receipt":
    ClientState.finish = die_at(point, ClientState.finish)
else:
    ClientState.stage = die_at(point, ClientState.stage)
with Client(settings) as client:
    client.enroll_templates(gallery, named())
"""


@pytest.mark.parametrize(
    ("point", "number"),
    [
        ("before staging", 3),
        ("before sending", 1),
        ("before sending", 3),
        ("before noting the receipt", 1),
        ("before noting the receipt", 4),
    ],
)
def test_client_that_was_killed_goes_on(
    client: Client, settings: ClientSettings, gallery: Gallery, point: str, number: int
) -> None:
    """A real SIGKILL, at the points where memory, file and server can disagree."""
    arguments = [settings.model_dump_json(), gallery.name, point, str(number)]
    root = Path(__file__).resolve().parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert killed.returncode == -signal.SIGKILL
    report = client.enroll_templates(gallery.name, named())
    assert report.skipped + report.enrolled == PEOPLE
    assert report.skipped >= report.resumed
    if point == "before noting the receipt":
        assert report.resumed > 0
    assert_once(client, gallery.name)


class BreakOff(Unheard):
    """Ends the client amid a unit, as Ctrl-C and SIGTERM do."""

    def __init__(self, after: int) -> None:
        self._left = after

    def looked_at(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("taken", "units"),
    [(90, {90: 1, 10: DIMENSION}), (20, {20: DIMENSION, 80: 1}), (0, {100: 1})],
)
def test_what_was_looked_at_is_not_lost_when_the_client_is_ended(
    client: Client, gallery: Gallery, tmp_path: Path, taken: int, units: dict[int, int]
) -> None:
    """It is staged in the shape that it is worth; the number says how far apart slots are."""
    file = tmp_path / "many.npz"
    rows = people(100, seed=60)
    table, names = np.stack([one.vector for one in rows]), [one.subject for one in rows]
    np.savez(file, embeddings=table, subjects=np.array(names), model=np.array(MODEL))
    settings = client.settings.model_copy(update={"columns_from": 50})
    with Client(settings) as other:
        if taken:
            with pytest.raises(KeyboardInterrupt):
                other.enroll_embeddings(gallery.name, file, listener=BreakOff(taken))
        report = other.enroll_embeddings(gallery.name, file)
    assert (report.skipped, report.enrolled) == (taken, 100 - taken)
    slots: dict[bytes, list[int]] = {}
    for entry in client.templates(gallery.name):
        slots.setdefault(entry.unit_token, []).append(entry.slot)
    steps = {len(unit): (max(unit) - min(unit)) // (len(unit) - 1) for unit in slots.values()}
    assert steps == units
    assert_once(client, gallery.name, 100)


class KillServer(Unheard):
    """Kills the server once the first unit is stored."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.killed = False

    def stored(self, count: int) -> None:
        if not self.killed:
            self.killed = True
            self._deployment.service(SERVER).kill()


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment of its own: its server is killed."""
    plan = Plan(
        dimension=DIMENSION,
        models={MODEL: "0.6"},
        galleries=("people",),
        profile="compact",
        purpose="tests",
    )
    with Deployment(tmp_path_factory.mktemp("fragile"), plan) as running:
        running.make_keys()
        running.start()
        yield running


def test_server_that_was_killed_is_enrolled_into_further(fragile: Deployment) -> None:
    """Nothing that was acknowledged is lost, nothing is stored twice; yes/no answers here."""
    epoch = load_bundle(fragile.bundle).epoch
    pin = Pin(model_id=MODEL, model_dimension=DIMENSION, profile="compact", key_epoch=epoch)
    with Client(fragile.settings()) as client:
        with Connection(client.settings) as connection:
            galleries.create(connection, "people", pin)
        with pytest.raises(Busy):
            client.enroll_templates("people", named(), listener=KillServer(fragile))
        fragile.start_server(listen=fragile.server_address)
        kept = client.gallery("people").templates
        report = client.enroll_templates("people", named())
        assert kept >= Shape.ROW.capacity(GUARDED, DIMENSION)
        assert report.skipped >= kept
        assert report.skipped + report.enrolled == PEOPLE
        assert_once(client, "people")
        before = client.gallery("people")
    fragile.service(SERVER).stop()
    fragile.start_server(listen=fragile.server_address)
    with Client(fragile.settings()) as client:
        assert client.gallery("people") == before
        assert_once(client, "people")
