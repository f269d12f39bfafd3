"""Re-sharings between processes over mutual TLS: refresh, replacement, members that are killed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.auditor_world import policy_text, world, write_signed_policy
from tests.ceremony_place import PROGRAM, command, environment
from tests.guardian_place import serving
from tests.oracles.ceremonies import Finished, joint_secret
from tests.resharing_place import Holders, after_ceremony, holders, resharing
from underseal_auditor.guardian import UnfitGuardian
from underseal_auditor.keys.decryption import Opener, encrypt_zero
from underseal_auditor.keys.sampling import SecretStream
from underseal_client.release import open_release
from underseal_core.credentials import Role
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.statements import Release
from underseal_server.pki import issue

SIGMA = 2.0**-6


def check_every_group(
    made: Holders, ceremony: Finished, names: Iterable[object], generation: int
) -> None:
    """Every k of the members' shares on disk open, all are of this generation."""
    bundle = ceremony.bundle
    shares = [made.share(name) for name in names]
    level = bundle.profile.result_level
    zero = encrypt_zero(bundle.public_key, bundle.profile, level, SecretStream())
    secret = joint_secret(ceremony.shares[: bundle.threshold])
    for name, share in zip(names, shares, strict=True):
        assert share.generation == made.rosters(name)[-1].generation
        assert share.generation.number == generation
    for group in combinations(shares, bundle.threshold):
        opened = Opener(group, bundle).open(Ciphertext(bundle.profile, Kind.RESULT, zero), SIGMA)
        assert float(opened.std()) == pytest.approx(SIGMA, rel=0.06)
        assert np.array_equal(joint_secret(group), secret)


def test_refresh_then_replacement_by_commands(tmp_path: Path) -> None:
    made, ceremony = after_ceremony(tmp_path, 2, 3)
    run = resharing(made, "refresh", (1, 2, 3), "refresh")
    with run.joining() as members:
        facts = [member.facts() for member in members]
    assert len({fact["fingerprint"] for fact in facts}) == 1
    assert {fact["generation"] for fact in facts} == {1}
    assert all(fact["unreached"] == [] for fact in facts)
    check_every_group(made, ceremony, (1, 2, 3), 1)
    for name in (1, 2, 3):
        assert sorted(path.name for path in made.keys(name).iterdir()) == [
            "bundle.usb",
            "share.sealed",
            "successions.jsonl",
        ]
        assert not (run.state(name) / "member.sealed").exists()
    made.newcomer("new", after=1)
    names = (1, "new", 3)
    with resharing(made, "replacement", names, "replace").joining() as members:
        assert {member.facts()["generation"] for member in members} == {2}
    check_every_group(made, ceremony, names, 2)
    assert [len(made.rosters(name)) for name in (*names, 2)] == [3, 3, 3, 2]


def test_three_of_five_with_two_new_members(tmp_path: Path) -> None:
    made, ceremony = after_ceremony(tmp_path, 3, 5)
    for name in ("a", "b"):
        made.newcomer(name, after=1)
    names = ("a", 2, 3, 4, "b")
    with resharing(made, "replacement", names, "replace").joining() as members:
        assert {member.facts()["generation"] for member in members} == {1}
    check_every_group(made, ceremony, names, 1)


@pytest.mark.parametrize("victim", [0, 2], ids=["dealer", "newcomer"])
def test_member_killed_after_every_round_goes_on(victim: int, tmp_path: Path) -> None:
    made, ceremony = after_ceremony(tmp_path, 2, 3)
    made.newcomer("new", after=1)
    names = (1, 2, "new")
    with resharing(made, "replacement", names, "replace").joining() as members:
        one = members[victim]
        one.until("listening")
        one.kill()
        for number in range(1, 5):
            one.start()
            one.until(f"round {number} of 5")
            one.kill()
        one.start()
        facts = [member.facts() for member in members]
    assert len({fact["succession"] for fact in facts}) == 1
    check_every_group(made, ceremony, names, 1)


def test_guardians_open_after_a_replacement(tmp_path: Path) -> None:
    """From `shares replace` to a release by the new guardian; the dismissed one gets nothing."""
    of = world("swift", 2, 3)
    made = holders(tmp_path, of.bundle, of.members, of.shares)
    newcomer = made.newcomer("new", after=1)
    names = (1, 2, "new")
    with resharing(made, "replacement", names, "replace").joining() as members:
        for member in members:
            member.facts()
    today = made.rosters(1)[-1]
    shares = tuple(made.share(name) for name in names)
    after = replace(of, members=(*of.members[:2], newcomer), shares=shares, today=today)
    root = tmp_path / "serving"
    root.mkdir()
    for point, name in enumerate((*names, 3)):
        (root / f"auditor-{(point + 1) % 4}").symlink_to(made.credentials(name))
        (root / f"share-{point + 1}.sealed").symlink_to(made.keys(name) / "share.sealed")
    for file in ("bundle.usb", "successions.jsonl"):
        (root / file).symlink_to(made.keys(1) / file)
    write_signed_policy(root / "policy.toml", after, policy_text("swift"))
    issue(made.authority, root / "server", Role.SERVER, "server")
    with serving(root, after, "swift") as guardians:
        for group in combinations((1, 2, 3), 2):
            with guardians.panel(*group) as panel, guardians.office(panel) as office:
                envelope = office.envelope(guardians.ask())
            assert open_release(envelope, today, None).matches == ()
            for point in group:
                Release.open(envelope, after.members[point - 1].public_key)
        with (
            guardians.panel(1, 2, caller=0) as panel,
            guardians.office(panel) as office,
            pytest.raises(UnfitGuardian, match="no member of this key epoch"),
        ):
            office.envelope(guardians.ask())


def test_wrong_plan_and_wrong_folder_are_refused(tmp_path: Path) -> None:
    made, _ = after_ceremony(tmp_path, 2, 3)
    made.newcomer("new", after=1)
    run = resharing(made, "one", (1, 2, "new"), "refresh")
    for name, text in ((1, "replaces member 3"), ("new", "replaces member 3")):
        assert text in refused(run.arguments(name))
    run = resharing(made, "two", (1, 2, 3), "replace")
    assert "replaces nobody" in refused(run.arguments(1))
    run = resharing(made, "three", (1, 2, "new"), "replace")
    (made.keys("new") / "share.sealed").touch()
    assert "holds a share already" in refused(run.arguments("new"))
    (made.keys(1) / "share.sealed").unlink()
    assert "there is no share.sealed" in refused(run.arguments(1))
    (made.keys(2) / "share.next").touch()
    assert "unfinished" in refused(run.arguments(2))
    assert "must be finished by all" in refused(["shares", "abandon", "--keys", str(made.keys(2))])
    assert (made.keys(2) / "share.next").exists()
    command("shares", "abandon", "--yes", "--keys", made.keys(2))
    assert not (made.keys(2) / "share.next").exists()
    stranger = run.arguments(2)
    stranger[stranger.index("--credentials") + 1] = str(made.credentials(3))
    assert "does not name this identity" in refused(stranger)


def refused(arguments: list[str]) -> str:
    """Return what a command that fails writes to stderr."""
    done = subprocess.run(
        [PROGRAM, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    assert done.returncode in (3, 4), done.stderr
    return done.stderr
