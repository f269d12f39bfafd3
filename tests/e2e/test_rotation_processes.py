"""Switching keys made between processes over mutual TLS, by command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ceremony_place import PASSPHRASE, Joining, command, free_ports
from underseal_auditor.keys import share_file
from underseal_auditor.keys.ceremony import MemberSecrets, run_local
from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.sealed_file import Argon2Cost
from underseal_core.bundle import load_bundle
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


def keys(folder: Path, threshold: int, identities: list[Identity], label: OpeningKey) -> None:
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


@dataclass(frozen=True)
class Handover:
    """Auditors, by number, who hold the old key and the new one; ``k`` of the old are active."""

    k: int
    old: tuple[int, ...]
    new: tuple[int, ...]
    active: tuple[int, ...]

    @property
    def participants(self) -> list[int]:
        return sorted({*self.active, *self.new})


def commands(root: Path, handover: Handover) -> list[list[str]]:
    """Make both keys and the plan; return each participant's arguments of ``epoch rotate``."""
    authority = Authority.create()
    places = {number: root / f"auditor-{number}" for number in {*handover.old, *handover.new}}
    for number, place in places.items():
        issue(authority, place, Role.AUDITOR, f"auditor-{number}")
    known = {number: Credentials.load(place).identity for number, place in places.items()}
    label = OpeningKey.generate()
    keys(root / "old", handover.k, [known[number] for number in handover.old], label)
    keys(root / "new", handover.k, [known[number] for number in handover.new], label)
    bundles, rotation = bundles_of(root), root / "rotation.json"
    active = ",".join(str(handover.old.index(number) + 1) for number in reversed(handover.active))
    planned = command("epoch", "plan", *bundles, "--active", active, "--out", rotation)
    order = {known[number].public_key.hex(): number for number in known}
    auditors = [order[key] for key in planned["participants"]]
    assert sorted(auditors) == handover.participants
    ports = free_ports(len(auditors))
    made = []
    for index, auditor in enumerate(auditors):
        arguments: list[object] = ["epoch", "rotate", "--file", rotation, *bundles]
        arguments += ["--credentials", places[auditor], "--state", root / f"s{auditor}"]
        arguments += ["--out", root / f"switching-{auditor}.usk"]
        for side, holders in (("old", handover.old), ("new", handover.new)):
            if auditor in (handover.active if side == "old" else holders):
                share = root / side / f"share-{holders.index(auditor) + 1}.sealed"
                arguments += [f"--{side}-share", share]
        arguments += ["--listen", f"127.0.0.1:{ports[index]}"]
        for other, port in enumerate(ports, start=1):
            if other != index + 1:
                arguments += ["--peer", f"{other}=127.0.0.1:{port}"]
        made.append([str(argument) for argument in arguments])
    return made


@pytest.mark.parametrize(
    ("handover", "kills"),
    [
        (Handover(2, (1, 2, 3), (2, 4, 5), (2, 3)), [(1, 1)]),
        (Handover(3, (1, 2, 3, 4, 5), (1, 4, 5, 6, 7), (1, 4, 5)), [(2, 1), (4, 2), (1, 3)]),
    ],
    ids=["two of three", "three of five"],
)
def test_auditors_hand_over_to_others_and_some_are_killed(
    handover: Handover, kills: list[tuple[int, int]], tmp_path: Path
) -> None:
    """``kills``: which participant, from 0, and after which of the three rounds."""
    running: list[Joining] = []
    try:
        running += map(Joining, commands(tmp_path, handover))
        for victim, number in kills:
            running[victim].until(f"round {number} of 3")
            running[victim].kill()
            running[victim].start()
        made = [one.facts() for one in running]
    finally:
        for one in running:
            if one.process.poll() is None:
                one.kill()
    assert len({facts["switching_key"] for facts in made}) == 1
    assert not any(facts["unreached"] for facts in made)
    contents = {path.read_bytes() for path in tmp_path.glob("switching-*.usk")}
    assert len(contents) == 1
    key = load_switching_key(tmp_path / f"switching-{handover.new[-1]}.usk")
    old, new = (load_bundle(tmp_path / side / "bundle.usb") for side in ("old", "new"))
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
