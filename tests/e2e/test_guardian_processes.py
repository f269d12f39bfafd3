"""Guardians as processes on different ports, and a registrar that opens with k of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from tests.auditor_credentials import write_credentials
from tests.auditor_world import (
    AUDITOR,
    policy_text,
    world,
    write_signed_policy,
)
from tests.guardian_place import CHEAP, PASSPHRASE, guardians
from underseal_auditor.api.serving import RegistrarProcess
from underseal_auditor.guardian import UnfitGuardian
from underseal_auditor.keys import share_file
from underseal_auditor.logbook import create_logbook
from underseal_auditor.settings import load_settings
from underseal_core.errors import Busy, Conflict, InvalidInput
from underseal_core.statements import Release
from underseal_server.pki import Authority

PROFILE = "swift"


@pytest.mark.parametrize(("threshold", "count"), [(2, 3), (3, 5)])
def test_every_group_of_guardian_processes_releases(
    threshold: int, count: int, tmp_path: Path
) -> None:
    with guardians(tmp_path, threshold, count) as made:
        for group in combinations(range(1, count + 1), threshold):
            with made.panel(*group) as panel, made.office(panel) as office:
                envelope = office.envelope(made.ask())
                assert Release.open(envelope, AUDITOR.public_key).matches == ()
                for point in group:
                    Release.open(envelope, made.of.members[point - 1].public_key)


def test_killed_guardian_is_replaced_and_answers_nothing_twice(tmp_path: Path) -> None:
    with (
        guardians(tmp_path, 2, 3) as made,
        made.panel(1, 2, 3) as panel,
        made.office(panel) as office,
    ):
        opened = office.dossier(made.ask())
        panel.begin(opened).open(opened.sealed.norm, 0.1)  # answered by 1 and 2
        made.kill(1)
        with pytest.raises(Conflict, match="answered before"):
            panel.begin(opened)  # 2 and 3
        assert office.submit(made.ask()).matches == ()
        made.kill(2)
        with pytest.raises(Busy, match="too few guardians"):
            office.envelope(made.ask())
        for point in (1, 2):
            made.start(point)
            made.ready(point)
        entry, receipt = opened.intent.entry, opened.intent.receipt
        again = replace(opened, intent=made.book.append_once(entry, receipt).logged)
        with pytest.raises(Conflict, match="answered before"):
            panel.begin(again)
        assert office.submit(made.ask()).matches == ()


def test_auditor_outside_the_key_epoch_gets_nothing(tmp_path: Path) -> None:
    with (
        guardians(tmp_path, 2, 3) as made,
        made.panel(1, 2, caller=0) as panel,
        made.office(panel) as office,
        pytest.raises(UnfitGuardian, match="no member of this key epoch"),
    ):
        office.envelope(made.ask())


def test_registrar_is_built_with_guardians_or_a_share_and_never_both(tmp_path: Path) -> None:
    of = world(PROFILE, 2, 3)
    of.bundle.save(tmp_path / "bundle.usb")
    write_signed_policy(tmp_path / "policy.toml", of, policy_text(PROFILE))
    write_credentials(Authority.create(), tmp_path / "auditor", "auditor", AUDITOR)
    epoch = of.bundle.epoch
    share_file.save(tmp_path / "share.sealed", of.shares[0], PASSPHRASE, CHEAP)
    share_file.save_label_key(
        tmp_path / "label.sealed", of.keys.label_key, epoch, PASSPHRASE, CHEAP
    )
    config = tmp_path / "auditor.toml"
    text = """
listen = "127.0.0.1:0"
credentials = "auditor"
bundle = "bundle.usb"
label_key = "label.sealed"
policy = "policy.toml"
data = "data"
log = "log"
servers = { server = "127.0.0.1:1" }
"""
    create_logbook(tmp_path / "log", "log.example/built")
    chosen = 'guardians = { 1 = "127.0.0.1:2", 3 = "127.0.0.1:3" }\n'
    config.write_text(text + chosen)
    RegistrarProcess(load_settings(config, {}), PASSPHRASE).close()
    flags = {"guardians": ["1=127.0.0.1:2", "2=127.0.0.1:3"]}
    assert load_settings(config, flags).guardians == {1: "127.0.0.1:2", 2: "127.0.0.1:3"}
    for wrong, message in (
        (text, "either a share"),
        (text + chosen + 'share = "share.sealed"\n', "either a share"),
        (text + 'share = "share.sealed"\n', "2 key shares are needed"),
        (text + 'guardians = { 1 = "127.0.0.1:2" }\n', "at least 2 guardians"),
    ):
        config.write_text(wrong)
        with pytest.raises(InvalidInput, match=message):
            RegistrarProcess(load_settings(config, {}), PASSPHRASE)
