"""Dealing shares anew: a refresh, and a guardian's place given to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.oracles.ceremonies import DIMENSION, finished, joint_secret
from tests.oracles.resharings import (
    Council,
    council,
    members_of,
    refreshed,
    replaced,
    reshare,
    secrets_of,
)
from underseal_auditor.keys.ceremony import run_round
from underseal_auditor.keys.decryption import Opener, encrypt_zero
from underseal_auditor.keys.member import Member
from underseal_auditor.keys.messages import CeremonyFailed
from underseal_auditor.keys.resharing import Reshared, resharing_payload_size
from underseal_auditor.keys.resharing_file import ResharingFile, ResharingRound
from underseal_auditor.keys.sampling import SecretStream
from underseal_auditor.keys.share import Share, ShareClosed
from underseal_auditor.keys.sharing import deal
from underseal_core.errors import InvalidInput, Mismatch
from underseal_core.roster import Generation
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.profiles import SWIFT
from underseal_core.signing import Identity

SIGMA = 2.0**-6
QUORUMS = [(2, 3), (3, 5)]


def zero_of(after: Council) -> Ciphertext:
    level = SWIFT.result_level
    zero = encrypt_zero(after.bundle.public_key, SWIFT, level, SecretStream())
    return Ciphertext(SWIFT, Kind.RESULT, zero)


@pytest.mark.parametrize("change", [refreshed, replaced])
@pytest.mark.parametrize(("threshold", "count"), QUORUMS)
def test_every_group_of_k_new_shares_opens(
    change: Callable[[int, int], tuple[Council, Council]], threshold: int, count: int
) -> None:
    before, after = change(threshold, count)
    secret = joint_secret(before.shares)
    for group in combinations(after.shares, threshold):
        assert np.array_equal(joint_secret(group), secret)
        opened = Opener(group, after.bundle).open(zero_of(after), SIGMA)
        assert float(opened.std()) == pytest.approx(SIGMA, rel=0.06)
    assert {share.generation for share in after.shares} == {after.roster.generation}
    assert after.roster.generation.number == 1
    assert after.roster.members == tuple(one.public_key for one in after.identities)


@pytest.mark.parametrize(("threshold", "count"), QUORUMS)
def test_shares_of_two_generations_hold_no_secret_together(threshold: int, count: int) -> None:
    before, after = refreshed(threshold, count)
    secret = joint_secret(before.shares)
    for group in combinations(range(count), threshold):
        for new in range(1, threshold):
            mixed = [(after if i < new else before).shares[p] for i, p in enumerate(group)]
            assert (joint_secret(tuple(mixed)) != secret).mean() > 0.99
            with pytest.raises(Mismatch, match="different generations"):
                Opener(mixed, after.bundle)


def test_shares_and_pair_secrets_are_new() -> None:
    before, after = refreshed(2, 3)
    for old, new in zip(before.shares, after.shares, strict=True):
        assert (old.secret == new.secret).mean() < 1e-3
        for start in range(0, 64, 32):
            part = slice(start, start + 32)
            assert old.pairs.content[part] != new.pairs.content[part]


def test_generations_follow_each_other() -> None:
    _, first = refreshed(2, 3)
    newcomer = Identity.generate()
    second = reshare(first, (newcomer, *first.identities[1:]))
    assert second.roster.generation.number == 2
    assert second.roster.members[0] == newcomer.public_key
    assert np.array_equal(joint_secret(second.shares[:2]), joint_secret(first.shares[:2]))
    third = reshare(second, second.identities)
    assert np.array_equal(joint_secret(third.shares[1:]), joint_secret(first.shares[:2]))


def test_payload_size_is_that_of_every_message(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[tuple[ResharingRound, int], int] = {}
    receive = Member.receive

    def measured(self: Member[Reshared], reveals: Any) -> None:
        for reveal in reveals:
            sizes[ResharingRound(reveal.round), reveal.sender] = len(reveal.payload)
        receive(self, reveals)

    monkeypatch.setattr(Member, "receive", measured)
    before, _ = refreshed(2, 3)
    file, machines = members_of(before, secrets_of(before.identities))
    for _ in ResharingRound:
        run_round(machines)
    assert len(sizes) == 3 * len(ResharingRound)
    assert all(resharing_payload_size(file, *sent) == size for sent, size in sizes.items())


# Cheating.


def steps(machines: Sequence[Member[Reshared]], count: int) -> None:
    for _ in range(count):
        run_round(machines)


@pytest.mark.parametrize("position", [0, SWIFT.fresh_level])
def test_dealer_of_a_wrong_value_voids_the_resharing(
    position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = refreshed(2, 3)
    calls = []

    def cheat(*arguments: Any) -> list[npt.NDArray[np.uint32]]:
        values = deal(*arguments)
        calls.append(1)
        if len(calls) == 2:
            values[2][position, 0] ^= 1
        return values

    monkeypatch.setattr("underseal_auditor.keys.resharing.deal", cheat)
    kept: list[Share] = []
    _, machines = members_of(before, secrets_of(before.identities), kept.append)
    steps(machines, 3)
    with pytest.raises(CeremonyFailed, match="do not open the known answer"):
        steps(machines, 1)
    assert kept == []


def test_dealer_of_another_polynomials_degree_voids_the_resharing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A polynomial of degree 2 in a 2-of-3: the key would need three members from now on."""
    before, _ = refreshed(2, 3)

    def cheat(secret: Any, threshold: int, *arguments: Any) -> list[npt.NDArray[np.uint32]]:
        return deal(secret, threshold + 1, *arguments)

    monkeypatch.setattr("underseal_auditor.keys.resharing.deal", cheat)
    _, machines = members_of(before, secrets_of(before.identities))
    steps(machines, 3)
    with pytest.raises(CeremonyFailed, match="do not open the known answer"):
        steps(machines, 1)


def test_nobody_signs_before_its_share_is_kept_and_tested() -> None:
    before, _ = refreshed(2, 3)
    kept: list[Share] = []
    _, machines = members_of(before, secrets_of(before.identities), kept.append)
    steps(machines, 4)
    assert kept == []
    commitments = [machine.commit() for machine in machines]
    assert [share.point for share in kept] == [1, 2, 3]
    assert {share.generation.number for share in kept} == {1}
    reveals = [machine.reveal(commitments) for machine in machines]
    wrong = replace(reveals[2], payload=bytes(64))
    commitments[2] = wrong.commitment(machines[0]._file.digest)
    machines[0]._commitments = tuple(commitments)
    with machines[0], pytest.raises(CeremonyFailed, match="member 3 did not sign"):
        machines[0].receive([*reveals[:2], wrong])
    with pytest.raises(ShareClosed):
        _ = kept[0].secret


def test_dealer_deals_its_newest_share_only() -> None:
    before, after = refreshed(2, 3)
    stale = replace(after, shares=before.shares)
    _, machines = members_of(stale, secrets_of(after.identities))
    steps(machines, 1)
    with pytest.raises(Mismatch, match="not of the generation"):
        steps(machines, 1)
    swapped = replace(before, shares=(before.shares[1], before.shares[0], before.shares[2]))
    _, machines = members_of(swapped, secrets_of(before.identities))
    steps(machines, 1)
    with pytest.raises(Mismatch, match="not of the generation"):
        steps(machines, 1)


# The file.


def planned(before: Council, identities: Sequence[Identity]) -> ResharingFile:
    public = tuple(one.public() for one in secrets_of(identities))
    return ResharingFile.plan(before.bundle, before.roster, public)


def test_file_survives_bytes_and_has_one_form_only() -> None:
    before, after = replaced(3, 5)
    file = planned(before, after.identities)
    assert ResharingFile.parse(file.to_bytes()) == file
    assert (file.dealers, file.generation, file.replaced(before.roster)) == ((1, 2, 3), 1, (5,))
    for data in (
        b"{}",
        b"[" * 100_000,
        file.to_bytes() + b" ",
        file.to_bytes().replace(b'"threshold":3', b'"threshold":2'),
        file.to_bytes().replace(b'"threshold":3', b'"threshold":1'),
        file.to_bytes().replace(b'"generation":1', b'"generation":0'),
        file.to_bytes().replace(b'"dealers":[1,2,3]', b'"dealers":[1,1,3]'),
        file.to_bytes().replace(b'"dealers":[1,2,3]', b'"dealers":[1,2,6]'),
        b"x" * (1 << 19),
    ):
        with pytest.raises(InvalidInput):
            ResharingFile.parse(data)


def test_members_who_stay_deal() -> None:
    before, _ = refreshed(3, 5)
    strangers = [Identity.generate() for _ in range(2)]
    mine = before.identities
    file = planned(before, (strangers[0], mine[1], strangers[1], mine[3], mine[4]))
    assert (file.dealers, file.replaced(before.roster)) == ((2, 4, 5), (1, 3))
    with pytest.raises(InvalidInput, match="2 members keep their places; 3 are needed"):
        planned(before, (*strangers, Identity.generate(), *mine[3:]))
    with pytest.raises(InvalidInput, match="5 members' cards"):
        planned(before, mine[:4])
    sole = council(finished())
    with pytest.raises(InvalidInput, match="is the key itself"):
        planned(sole, sole.identities)


def test_file_must_follow_todays_roster() -> None:
    before, after = refreshed(2, 3)
    other = council(finished(threshold=2, count=3, dimension=2 * DIMENSION))
    file = planned(before, before.identities)
    file.check_follows(before.bundle, before.roster)
    with pytest.raises(Mismatch, match="generation 1, and the newest one here is 1"):
        file.check_follows(after.bundle, after.roster)
    with pytest.raises(Mismatch, match="other keys"):
        file.check_follows(other.bundle, other.roster)
    stranger = tuple(one.public() for one in secrets_of([Identity.generate()]))
    forged = replace(file, members=(*stranger, *file.members[1:]))
    with pytest.raises(InvalidInput, match="no member of today"):
        forged.check_follows(before.bundle, before.roster)
    digests = {
        replace(file, **change).digest
        for change in (
            {},
            {"generation": 2},
            {"previous": "0" * 64},
            {"epoch": "0" * 64},
            {"dealers": (1, 3)},
            {"dimension": 8},
            {"members": file.members[::-1]},
        )
    }
    assert len(digests) == 7


def test_generation_is_in_the_share() -> None:
    _, after = refreshed(2, 3)
    share = after.shares[0]
    assert share.generation == Generation(1, after.roster.generation.sha256)
    assert "number=1" in repr(share)
