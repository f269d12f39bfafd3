"""Re-sharings between processes over mutual TLS: refresh, replacement, members that are killed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.ceremony_place import PROGRAM, command, environment
from tests.oracles.ceremonies import finished, joint_secret
from tests.resharing_place import Holders, holders, resharing
from underseal_auditor.keys.decryption import Opener, encrypt_zero
from underseal_auditor.keys.sampling import SecretStream
from underseal_core.scheme.ciphertext import Ciphertext, Kind

SIGMA = 2.0**-6


def check_every_group(made: Holders, names: Iterable[object], generation: int) -> None:
    """Every k of the members' shares on disk open, all are of this generation."""
    bundle = made.ceremony.bundle
    shares = [made.share(name) for name in names]
    level = bundle.profile.result_level
    zero = encrypt_zero(bundle.public_key, bundle.profile, level, SecretStream())
    secret = joint_secret(made.ceremony.shares[: bundle.threshold])
    for name, share in zip(names, shares, strict=True):
        assert share.generation == made.rosters(name)[-1].generation
        assert share.generation.number == generation
    for group in combinations(shares, bundle.threshold):
        opened = Opener(group, bundle).open(Ciphertext(bundle.profile, Kind.RESULT, zero), SIGMA)
        assert float(opened.std()) == pytest.approx(SIGMA, rel=0.06)
        assert np.array_equal(joint_secret(group), secret)


def test_refresh_then_replacement_by_commands(tmp_path: Path) -> None:
    made = holders(tmp_path, finished(threshold=2, count=3))
    run = resharing(made, "refresh", (1, 2, 3), "refresh")
    with run.joining() as members:
        facts = [member.facts() for member in members]
    assert len({fact["fingerprint"] for fact in facts}) == 1
    assert {fact["generation"] for fact in facts} == {1}
    assert all(fact["unreached"] == [] for fact in facts)
    check_every_group(made, (1, 2, 3), 1)
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
    check_every_group(made, names, 2)
    assert [len(made.rosters(name)) for name in (*names, 2)] == [3, 3, 3, 2]


def test_three_of_five_with_two_new_members(tmp_path: Path) -> None:
    made = holders(tmp_path, finished(threshold=3, count=5))
    for name in ("a", "b"):
        made.newcomer(name, after=1)
    names = ("a", 2, 3, 4, "b")
    with resharing(made, "replacement", names, "replace").joining() as members:
        assert {member.facts()["generation"] for member in members} == {1}
    check_every_group(made, names, 1)


@pytest.mark.parametrize("victim", [0, 2], ids=["dealer", "newcomer"])
def test_member_killed_after_every_round_goes_on(victim: int, tmp_path: Path) -> None:
    made = holders(tmp_path, finished(threshold=2, count=3))
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
    check_every_group(made, names, 1)


def test_wrong_plan_and_wrong_folder_are_refused(tmp_path: Path) -> None:
    made = holders(tmp_path, finished(threshold=2, count=3))
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
