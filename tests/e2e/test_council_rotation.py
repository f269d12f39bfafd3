"""Two of three guardians with replicas, before and after a change of keys: every role a process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.people import MODEL, people, resembling
from tests.e2e.test_rotation import until_moved
from underseal_client import Client
from underseal_client import gallery as galleries
from underseal_client.demo.council import AUDITOR_PROGRAM, Council, Seat, free_addresses
from underseal_client.demo.deployment import Deployment, Plan
from underseal_client.demo.process import run_program
from underseal_core.bundle import load_bundle
from underseal_core.credentials import Credentials
from underseal_core.errors import Busy
from underseal_core.statements import Pin

ASK: dict[str, Any] = {"purpose": "tests", "case": "T-1"}
GALLERY = "missing"
DIMENSION = 128
OLD_POINTS = (1, 3)


@pytest.fixture
def before(tmp_path: Path) -> Iterator[Deployment]:
    plan = Plan(DIMENSION, {MODEL: "0.6"}, (GALLERY,), "swift", "tests", guardians=3, threshold=2)
    with Deployment(tmp_path / "before", plan) as running:
        running.make_keys()
        running.start()
        yield running


def council_of(deployment: Deployment) -> Council:
    assert deployment.council is not None
    return deployment.council


def next_ceremony(before: Deployment, after: Deployment) -> None:
    """The same three auditors make new keys; the registrar's member keeps the label key."""
    shutil.copytree(before.folder / "authority", after.folder / "authority")
    cards = []
    for old, new in zip(council_of(before).seats, council_of(after).seats, strict=True):
        new.folder.mkdir()
        shutil.copy(old.passphrase, new.passphrase)
        options: list[object] = ["--credentials", new.credentials, "--state", new.state]
        options += ["--passphrase-file", new.passphrase, "--json"]
        if new.point == 1:
            options += ["--registrar", "--label-key", old.keys / "label.sealed"]
        cards.append(json.loads(run_program(AUDITOR_PROGRAM, "ceremony", "prepare", *options)))
    file = after.folder / "ceremony.json"
    planned: list[object] = [card["card"] for card in cards]
    planned += ["--threshold", 2, "--out", file]
    planned += ["--profile", before.plan.profile, "--dimension", DIMENSION]
    run_program(AUDITOR_PROGRAM, "ceremony", "plan", *planned)
    council_of(after)._join(file)
    after.bundle.parent.mkdir()
    shutil.copy(council_of(after).seats[0].keys / "bundle.usb", after.bundle)


def rotate(before: Deployment, after: Deployment) -> Path:
    """Guardians 1 and 3 of the old keys and all of the new ones make the switching key."""
    file = after.folder / "rotation.json"
    bundles: list[object] = ["--old-bundle", before.bundle, "--new-bundle", after.bundle]
    active = ",".join(map(str, OLD_POINTS))
    plan: list[object] = [*bundles, "--active", active, "--out", file, "--json"]
    planned = json.loads(run_program(AUDITOR_PROGRAM, "epoch", "plan", *plan))
    order = {key: number for number, key in enumerate(planned["participants"], start=1)}
    seats = council_of(after).seats
    addresses = free_addresses(len(seats))

    def join(seat: Seat) -> None:
        options: list[object] = ["--file", file, *bundles, "--credentials", seat.credentials]
        options += ["--state", seat.folder / "rotation", "--out", seat.keys / "switching.usk"]
        options += ["--new-share", seat.keys / "share.sealed"]
        options += ["--passphrase-file", seat.passphrase]
        if seat.point in OLD_POINTS:
            old = council_of(before).seats[seat.point - 1]
            options += ["--old-share", old.keys / "share.sealed"]
        mine = order[Credentials.load(seat.credentials).identity.public_key.hex()]
        for number, address in enumerate(addresses, start=1):
            here = ["--listen", address] if number == mine else ["--peer", f"{number}={address}"]
            options += here
        run_program(AUDITOR_PROGRAM, "epoch", "rotate", *options)

    with ThreadPoolExecutor(len(seats)) as threads:
        list(threads.map(join, seats))
    made = {(seat.keys / "switching.usk").read_bytes() for seat in seats}
    assert len(made) == 1
    return seats[0].keys / "switching.usk"


def lay_earlier(before: Deployment, seat: Seat, switching: Path) -> Path:
    """What a guardian of the new keys needs of the old ones."""
    folder = seat.folder / "earlier"
    folder.mkdir()
    shutil.copy(before.bundle, folder / "bundle.usb")
    shutil.copy(switching, folder / "switching.usk")
    old = council_of(before).seats[seat.point - 1]
    (folder / "replica").symlink_to(old.folder / "data" / "replica")
    return folder


def start_after(before: Deployment, after: Deployment, switching: Path) -> None:
    run_program(AUDITOR_PROGRAM, "log", "create", "--out", after.log, "--origin", "localhost/next")
    after.write_policy()
    after.sign_policy()
    after.server_address = before.server_address
    earlier = {s.point: lay_earlier(before, s, switching) for s in council_of(after).seats}
    council_of(after).start(
        lambda seat: [*after._guardian_options(seat), "--earlier", earlier[seat.point]]
    )
    after.start_registrar("--earlier", earlier[1])


@pytest.mark.timeout(900)
def test_guardians_search_on_both_sides_of_a_rotation(before: Deployment, tmp_path: Path) -> None:
    everybody = people(20, seed=1)
    bundle = tmp_path / "client" / "bundle.usb"
    bundle.parent.mkdir()
    shutil.copy(before.bundle, bundle)
    settings = before.settings(bundle=bundle, columns_from=12)
    probe = resembling(everybody[7].vector, 0.8, seed=2)
    with Client(settings) as client:
        pin = Pin(
            model_id=MODEL,
            model_dimension=DIMENSION,
            profile=before.plan.profile,
            key_epoch=load_bundle(bundle).epoch,
        )
        galleries.create(client._context.connection, GALLERY, pin)
        client.enroll_templates(GALLERY, everybody[:15])  # columns
        client.enroll_templates(GALLERY, everybody[15:])  # a row
        first = client.search_template(probe, gallery=GALLERY, **ASK)
        assert [found.label.name for found in first.found] == ["person 7"]

    after = Deployment(tmp_path / "after", before.plan)
    next_ceremony(before, after)
    switching = rotate(before, after)
    new = ("--bundle", after.bundle, "--data", before.server_data)
    run_program("underseal-server", "epoch", "add", switching, *new)
    epoch = load_bundle(after.bundle).epoch
    until_moved(settings, epoch)
    with after:
        start_after(before, after, switching)
        renewed = settings.model_copy(
            update={"registrar": after.registrar_address, "log_key": after.log_key}
        )
        with Client(settings) as client:
            assert client.update_bundle() == (epoch,)
        with Client(renewed) as client:
            again = client.search_template(probe, gallery=GALLERY, **ASK)
            assert [found.label for found in again.found] == [found.label for found in first.found]
            assert again.release.key_epoch == epoch
            client.enroll_templates(GALLERY, people(2, seed=9))
            after.kill_guardian(2)
            for index in (3, 17):
                alike = resembling(everybody[index].vector, 0.9, seed=index)
                (found,) = client.search_template(alike, gallery=GALLERY, **ASK).found
                assert found.label.name == f"person {index}"
            after.kill_guardian(3)
            with pytest.raises(Busy):
                client.search_template(probe, gallery=GALLERY, **ASK)
        assert after.verify_log().caught == ()
