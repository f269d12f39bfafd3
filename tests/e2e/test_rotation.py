"""From one key epoch to the next with every role as a process: enrol, search, rotate, search."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.people import MODEL, people, resembling
from underseal_client import Client
from underseal_client import gallery as galleries
from underseal_client.demo.council import AUDITOR_PROGRAM
from underseal_client.demo.deployment import AUDITOR, Deployment, Plan
from underseal_client.demo.process import run_program
from underseal_client.settings import ClientSettings
from underseal_core.bundle import load_bundle
from underseal_core.errors import Mismatch
from underseal_core.statements import Pin

ASK: dict[str, Any] = {"purpose": "tests", "case": "T-1"}
GALLERY = "missing"
DIMENSION = 128
DEADLINE = 120.0


@pytest.fixture
def before(tmp_path: Path) -> Iterator[Deployment]:
    plan = Plan(DIMENSION, {MODEL: "0.6"}, (GALLERY,), purpose="tests")
    with Deployment(tmp_path / "before", plan) as running:
        running.make_keys()
        config = tmp_path / "server.toml"
        config.write_text("save_seconds = 0.1\n")
        running.start_server("--config", config)
        running.start_registrar()
        yield running


def next_keys(before: Deployment, folder: Path) -> Deployment:
    """Hold the next ceremony and make the switching key, all by command."""
    after = Deployment(folder, before.plan)
    shutil.copytree(before.folder / "authority", after.folder / "authority")
    shutil.copy(before.folder / "passphrase", after.folder / "passphrase")
    passphrase = ("--passphrase-file", after.folder / "passphrase")
    mine = ("--credentials", after.credentials("auditors", AUDITOR))
    old, new = before.bundle.parent, after.bundle.parent
    ceremony = ("--profile", before.plan.profile, "--dimension", DIMENSION, "--out", new)
    kept = ("--label-key", old / "label.sealed")
    run_program(AUDITOR_PROGRAM, "ceremony", *mine, *ceremony, *kept, *passphrase)
    bundles = ("--old-bundle", before.bundle, "--new-bundle", after.bundle)
    file = ("--out", folder / "rotation.json")
    run_program(AUDITOR_PROGRAM, "epoch", "plan", *bundles, "--active", 1, *file)
    shares = ("--old-share", old / "share.sealed", "--new-share", new / "share.sealed")
    out = ("--state", folder / "rotation", "--out", old / "switching.usk")
    rotation = ("--file", folder / "rotation.json", *mine, *bundles, *shares, *out)
    run_program(AUDITOR_PROGRAM, "epoch", "rotate", *rotation, *passphrase)
    run_program(AUDITOR_PROGRAM, "log", "create", "--out", after.log, "--origin", "localhost/next")
    after.write_policy()
    after.sign_policy()
    return after


def until_moved(settings: ClientSettings, epoch: str) -> None:
    deadline = time.monotonic() + DEADLINE
    with Client(settings) as client:
        while client.gallery(GALLERY).pin.key_epoch != epoch:
            assert time.monotonic() < deadline, "the gallery did not move"
            time.sleep(0.05)


def test_searches_find_the_same_before_and_after(before: Deployment, tmp_path: Path) -> None:
    everybody = people(30, seed=1)
    probe = resembling(everybody[7].vector, 0.8, seed=2)
    bundle = tmp_path / "client" / "bundle.usb"
    bundle.parent.mkdir()
    shutil.copy(before.bundle, bundle)
    settings = before.settings(bundle=bundle, columns_from=20)
    with Client(settings) as client:
        pin = Pin(
            model_id=MODEL,
            model_dimension=DIMENSION,
            profile=before.plan.profile,
            key_epoch=load_bundle(bundle).epoch,
        )
        galleries.create(client._context.connection, GALLERY, pin)
        client.enroll_templates(GALLERY, everybody[:25])  # columns
        client.enroll_templates(GALLERY, everybody[25:])  # rows
        first = client.search_template(probe, gallery=GALLERY, **ASK)
        assert [found.label.name for found in first.found] == ["person 7"]
        assert client.update_bundle() == ()

    after = next_keys(before, tmp_path / "after")
    epoch = load_bundle(after.bundle).epoch
    switching = before.bundle.parent / "switching.usk"
    data = ("--data", before.server_data)
    run_program("underseal-server", "epoch", "add", switching, "--bundle", after.bundle, *data)
    until_moved(settings, epoch)

    with Client(settings) as client:
        with pytest.raises(Mismatch) as refused:
            client.search_template(probe, gallery=GALLERY, **ASK)
        assert "underseal bundle update" in refused.value.hint
        assert client.update_bundle() == (epoch,)
    with after:
        after.server_address = before.server_address
        after.start_registrar("--earlier", before.bundle.parent)
        renewed = settings.model_copy(
            update={"registrar": after.registrar_address, "log_key": after.log_key}
        )
        with Client(renewed) as client:
            again = client.search_template(probe, gallery=GALLERY, **ASK)
            assert [(f.label, f.match.score) for f in again.found] == [
                (f.label, f.match.score) for f in first.found
            ]
            assert again.release.key_epoch == epoch
            client.enroll_templates(GALLERY, people(3, seed=9))
            for index in (3, 28):
                alike = resembling(everybody[index].vector, 0.9, seed=index)
                (found,) = client.search_template(alike, gallery=GALLERY, **ASK).found
                assert found.label.name == f"person {index}"
    with Client(settings) as client:  # the old registrar still answers for what it released
        release = client.release(first.release.request_id).release
        assert release.key_epoch == pin.key_epoch
