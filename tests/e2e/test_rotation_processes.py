"""Switching keys made between processes over mutual TLS, by command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ceremony_place import PASSPHRASE, Joining, command, free_ports
from underseal_auditor.keys import share_file
from underseal_auditor.keys.ceremony import MemberSecrets, run_local
from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.sealed_file import Argon2Cost
from underseal_core.bundle import PublicBundle, load_bundle
from underseal_core.credentials import Credentials, Role
from underseal_core.labels import OpeningKey
from underseal_core.scheme.profiles import SWIFT
from underseal_core.signing import Identity
from underseal_core.switching import load_switching_key, verify_switching_key
from underseal_server.pki import Authority, issue

DIMENSION = 16
CHEAP = Argon2Cost(8, 1, 1)


def bundles_of(root: Path) -> list[object]:
    return ["--old-bundle", root / "old/bundle.usb", "--new-bundle", root / "new/bundle.usb"]


def keys(
    folder: Path, threshold: int, identities: list[Identity], label: OpeningKey
) -> PublicBundle:
    """Hold a ceremony and write bundle and shares."""
    members = [MemberSecrets(identity, OpeningKey.generate()) for identity in identities]
    public = tuple(member.public() for member in members)
    file = CeremonyFile(SWIFT, DIMENSION, threshold, public, label.public)
    bundle, shares = run_local(file, members)
    folder.mkdir()
    bundle.save(folder / "bundle.usb")
    for share in shares:
        path = folder / f"share-{share.point}.sealed"
        share_file.save(path, share, PASSPHRASE.encode(), CHEAP)
    return bundle


def test_two_of_three_hand_over_to_others_and_one_is_killed(tmp_path: Path) -> None:
    """Auditors 1, 2, 3 held the old key; 2, 4, 5 hold the new one."""
    authority = Authority.create()
    places = {number: tmp_path / f"auditor-{number}" for number in range(1, 6)}
    for number, place in places.items():
        issue(authority, place, Role.AUDITOR, f"auditor-{number}")
    known = {number: Credentials.load(place).identity for number, place in places.items()}
    label = OpeningKey.generate()
    old = keys(tmp_path / "old", 2, [known[1], known[2], known[3]], label)
    new = keys(tmp_path / "new", 2, [known[2], known[4], known[5]], label)
    bundles = bundles_of(tmp_path)
    rotation = tmp_path / "rotation.json"
    planned = command("epoch", "plan", *bundles, "--active", "3,2", "--out", rotation)
    order = {known[number].public_key.hex(): number for number in known}
    auditors = [order[key] for key in planned["participants"]]
    assert auditors == [2, 3, 4, 5]
    shares = {2: ["--old-share", "old/share-2.sealed", "--new-share", "new/share-1.sealed"]}
    shares |= {3: ["--old-share", "old/share-3.sealed"]}
    shares |= {4: ["--new-share", "new/share-2.sealed"], 5: ["--new-share", "new/share-3.sealed"]}
    ports = free_ports(len(auditors))
    running: list[Joining] = []
    try:
        for index, auditor in enumerate(auditors):
            arguments: list[object] = ["epoch", "rotate", "--file", rotation, *bundles]
            arguments += ["--credentials", places[auditor], "--state", tmp_path / f"s{auditor}"]
            arguments += ["--out", tmp_path / f"switching-{auditor}.usk"]
            arguments += [
                tmp_path / one if one.endswith("sealed") else one for one in shares[auditor]
            ]
            arguments += ["--listen", f"127.0.0.1:{ports[index]}"]
            for other, port in enumerate(ports, start=1):
                if other != index + 1:
                    arguments += ["--peer", f"{other}=127.0.0.1:{port}"]
            running.append(Joining([str(argument) for argument in arguments]))
        running[1].until("round 1 of 3")
        running[1].kill()
        running[1].start()
        made = [one.facts() for one in running]
    finally:
        for one in running:
            if one.process.poll() is None:
                one.kill()
    assert len({facts["switching_key"] for facts in made}) == 1
    assert not any(facts["unreached"] for facts in made)
    contents = {(tmp_path / f"switching-{auditor}.usk").read_bytes() for auditor in auditors}
    assert len(contents) == 1
    key = load_switching_key(tmp_path / "switching-5.usk")
    verify_switching_key(key, old, new)
    assert key.id == made[0]["switching_key"]


def test_one_auditor_renews_the_keys_alone(tmp_path: Path) -> None:
    """Everything by command: ceremony, ceremony with the old label key, plan, rotate."""
    authority = Authority.create()
    place = tmp_path / "auditor"
    issue(authority, place, Role.AUDITOR, "auditor")
    ceremony = ["ceremony", "--credentials", place, "--profile", "swift", "--dimension", DIMENSION]
    command(*ceremony, "--out", tmp_path / "old")
    command(*ceremony, "--out", tmp_path / "new", "--label-key", tmp_path / "old/label.sealed")
    bundles = bundles_of(tmp_path)
    rotation, out = tmp_path / "rotation.json", tmp_path / "switching.usk"
    command("epoch", "plan", *bundles, "--active", "1", "--out", rotation)
    shares = [
        "--old-share",
        tmp_path / "old/share.sealed",
        "--new-share",
        tmp_path / "new/share.sealed",
    ]
    rotate = ["epoch", "rotate", "--file", rotation, "--credentials", place, *bundles, *shares]
    made = command(*rotate, "--state", tmp_path / "state", "--out", out)
    old, new = load_bundle(tmp_path / "old/bundle.usb"), load_bundle(tmp_path / "new/bundle.usb")
    key = load_switching_key(out)
    assert key.id == made["switching_key"]
    verify_switching_key(key, old, new)
    labels = [
        share_file.load_label_key(tmp_path / side / "label.sealed", PASSPHRASE.encode(), one.epoch)
        for side, one in (("old", old), ("new", new))
    ]
    assert labels[0].public.raw == labels[1].public.raw == new.label_key.raw
    again = command(*rotate, "--state", tmp_path / "state", "--out", out)
    assert again["switching_key"] == key.id
    with pytest.raises(Exception, match="returned non-zero exit status 4"):
        command("epoch", "plan", *bundles[:3], bundles[1], "--active", "1", "--out", tmp_path / "x")
