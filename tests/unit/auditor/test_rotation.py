"""The making of a switching key: its equation, its rounds, and what they detect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.oracles import ntt
from tests.oracles.ceremonies import Finished, finished, joint_secret
from tests.oracles.rotations import context, identity_of, participants, plan, rotated, successor
from underseal_auditor.keys.member import Member
from underseal_auditor.keys.messages import CeremonyFailed, Reveal
from underseal_auditor.keys.rotation import (
    RotationContext,
    rotation_member,
    rotation_payload_size,
    run_rotation,
)
from underseal_auditor.keys.rotation_file import RotationFile, RotationRound
from underseal_auditor.store.ceremony_journal import CeremonyJournal
from underseal_auditor.store.contribution_record import ContributionRecord
from underseal_core.errors import Conflict, Damaged, InvalidInput, Mismatch
from underseal_core.roster import Roster
from underseal_core.scheme.profiles import SWIFT
from underseal_core.switching import SwitchingKey, verify_switching_key

PASSPHRASE = b"correct horse battery"


@pytest.mark.parametrize("name", ["swift", "compact", "guarded"])
def test_key_satisfies_its_equation(name: str) -> None:
    """``K_0 + K_1 s_new - [P s_old]_j`` is small for every digit, modulo every prime."""
    move = rotated(name)
    profile = move.key.profile
    primes = profile.key_primes
    old = joint_secret(move.old.shares[:2]).astype(object)
    new = joint_secret(move.new.shares[:2]).astype(object)
    members = len(move.new.shares)
    # sum over k contributions of u e + e0 + e1 s: 3.24 sqrt(k 4/3 N n), eight deviations
    bound = 8 * 3.24 * np.sqrt(2 * 4 / 3 * profile.degree * members)
    for digit, (first, second) in enumerate(move.key.key.astype(object)):
        for index, prime in enumerate(primes):
            wanted = profile.special_prime * old[index] if digit == index else 0
            value = (first[index] + second[index] * new[index] - wanted) % prime
            error = ntt.inverse(value.astype(np.uint32), prime).astype(np.int64)
            error = np.where(error > prime // 2, error - prime, error)
            assert 8 < np.abs(error).max() < bound


@pytest.mark.parametrize(
    ("before", "after", "staying"),
    [((1, 1), (1, 1), 1), ((1, 1), (2, 3), 1), ((2, 3), (2, 3), 3), ((2, 3), (3, 4), 1)],
    ids=str,
)
def test_members_may_stay_leave_and_join(
    before: tuple[int, int], after: tuple[int, int], staying: int
) -> None:
    move = rotated("swift", before, after, staying)
    verify_switching_key(move.key, move.old.bundle, move.new.bundle)
    everybody = set(move.file.holders) | set(move.file.members)
    assert set(move.file.signing_keys) == everybody


def test_every_group_of_old_members_makes_a_key() -> None:
    old = finished("swift", 2, 3)
    new = successor(old, 2, 2, 1)
    for active in combinations((1, 2, 3), 2):
        file = plan(old, new, active)
        key = run_rotation(participants(old, new, file))
        verify_switching_key(key, old.bundle, new.bundle)
        assert key.active == active


def test_messages_have_the_size_that_is_expected() -> None:
    old = finished("swift", 2, 3)
    new = successor(old, 3, 4, 3)
    file = plan(old, new, (1, 3))
    members = participants(old, new, file)
    for round_ in RotationRound:
        commitments = [member.commit() for member in members]
        reveals = [member.reveal(commitments) for member in members]
        for reveal in reveals:
            wanted = rotation_payload_size(file, new.bundle, round_, reveal.sender)
            assert len(reveal.payload) == wanted
        for member in members:
            member.receive(reveals)


# What is detected.


def forged_round(
    round_: RotationRound, sender: int, forge: Callable[[bytes], bytes]
) -> list[Member[SwitchingKey]]:
    """Run up to ``round_``, in which ``sender`` commits to a forged payload."""
    old = finished("swift", 2, 3)
    new = successor(old, 2, 3, 1)
    members = participants(old, new, plan(old, new, (1, 2)))
    for current in RotationRound:
        commitments = [member.commit() for member in members]
        reveals = [member.reveal(commitments) for member in members]
        if current is round_:
            honest = reveals[sender - 1]
            bad = Reveal(current, sender, honest.salt, forge(honest.payload))
            reveals[sender - 1] = bad
            for member in members:
                member._commitments = tuple(one.commitment(member._file.digest) for one in reveals)
        for member in members:
            member.receive(reveals)
        if current is round_:
            return members
    raise AssertionError("no such round")


def with_word(offset: int, value: int) -> Callable[[bytes], bytes]:
    def forge(payload: bytes) -> bytes:
        data = bytearray(payload)
        data[offset : offset + 4] = value.to_bytes(4, "little")
        return bytes(data)

    return forge


def test_wrong_contribution_is_noticed_before_anybody_signs() -> None:
    """One changed residue, in the last digit."""
    last = 4 * SWIFT.degree * (SWIFT.fresh_level + 1) * 2 * (SWIFT.fresh_level - 1)
    members = forged_round(RotationRound.CONTRIBUTION, 1, with_word(last, 12345))
    commitments = [member.commit() for member in members]
    reveals = [member.reveal(commitments) for member in members]
    for member in members:
        with pytest.raises(CeremonyFailed, match="known answer"):
            member.receive(reveals)


def test_wrong_answer_is_noticed() -> None:
    with pytest.raises(CeremonyFailed, match="known answer"):
        forged_round(RotationRound.PARTIAL_DECRYPTION, 1, with_word(0, 12345))


def test_signature_of_another_key_is_noticed() -> None:
    with pytest.raises(CeremonyFailed, match="member 2 did not sign"):
        forged_round(RotationRound.SIGNATURE, 2, lambda payload: bytes(len(payload)))


@pytest.mark.parametrize("round_", list(RotationRound)[:2])
def test_malformed_messages_name_their_sender(round_: RotationRound) -> None:
    for forge in (lambda payload: payload[:-1], with_word(0, 0xFFFFFFFF)):
        with pytest.raises(CeremonyFailed, match="member 1 is malformed"):
            forged_round(round_, 1, forge)


def test_participants_bring_the_shares_of_their_epochs() -> None:
    old = finished("swift", 2, 3)
    new = successor(old, 2, 3)
    file = plan(old, new, (1, 2))
    for participant in (1, 3):
        whole = context(old, new, file, participant)
        with pytest.raises(InvalidInput, match="brings the shares"):
            rotation_member(replace(whole, old_share=None, new_share=None))
        with pytest.raises(InvalidInput, match="identity"):
            rotation_member(replace(whole, identity=identity_of(file.signing_keys[1], old)))
    with pytest.raises(Mismatch, match="share"):
        rotation_member(replace(context(old, new, file, 1), old_share=old.shares[2]))


# The file.


def test_rotation_file_returns_as_it_went() -> None:
    move = rotated()
    data = move.file.to_bytes()
    assert RotationFile.parse(data) == move.file
    for changed in (data + b" ", data.replace(b"active", b"Active"), b"{}", b"x" * 20000):
        with pytest.raises(InvalidInput):
            RotationFile.parse(changed)


def test_impossible_plans_are_refused() -> None:
    old = finished("swift", 2, 3)
    new = successor(old, 2, 3)
    for active in ((1,), (1, 1), (1, 4), (0, 1), (1, 2, 3)):
        with pytest.raises(InvalidInput):
            plan(old, new, active)
    with pytest.raises(Mismatch, match="label key"):
        plan(old, finished("swift"), (1, 2))
    with pytest.raises(Mismatch, match="itself"):
        plan(old, old, (1, 2))
    file = plan(old, new, (1, 2))
    stranger = successor(old, 2, 3)
    with pytest.raises(Mismatch):
        file.check(old.bundle, Roster.first(old.bundle), stranger.bundle)


# Interruptions, and the one contribution.


def resumable(
    folder: Path, old: Finished, new: Finished, file: RotationFile, number: int
) -> Member[SwitchingKey]:
    base: RotationContext = context(old, new, file, number)
    record = ContributionRecord(folder, file, number, SWIFT)
    journal = CeremonyJournal(folder / f"rotation-{number}", file, number, PASSPHRASE)
    return rotation_member(replace(base, once=record.once), journal)


def test_interrupted_participant_goes_on_with_the_same_messages(tmp_path: Path) -> None:
    old = finished("swift", 2, 3)
    new = successor(old, 2, 3)
    file = plan(old, new, (1, 3))
    count = len(file.signing_keys)
    for number in range(1, count + 1):
        (tmp_path / str(number)).mkdir()

    def again(number: int) -> Member[SwitchingKey]:
        return resumable(tmp_path / str(number), old, new, file, number)

    for _ in RotationRound:
        commitments = [again(number).commit() for number in range(1, count + 1)]
        members = [again(number) for number in range(1, count + 1)]
        assert [member.commit() for member in members] == commitments
        reveals = [member.reveal(commitments) for member in members]
        members = [again(number) for number in range(1, count + 1)]
        for member in members:
            member.commit()
            member.reveal(commitments)
            member.receive(reveals)
    keys = {again(number).outcome.id for number in range(1, count + 1)}
    assert len(keys) == 1


def test_a_share_contributes_once_to_a_pair_of_epochs(tmp_path: Path) -> None:
    old = finished("swift", 2, 3)
    new = successor(old, 2, 3)
    first, second = plan(old, new, (1, 2)), plan(old, new, (1, 3))
    made = np.zeros((SWIFT.fresh_level, 2, SWIFT.fresh_level + 1, SWIFT.degree), dtype=np.uint32)
    made += np.arange(SWIFT.degree, dtype=np.uint32)
    record = ContributionRecord(tmp_path, first, 1, SWIFT)
    np.testing.assert_array_equal(record.once(lambda: made), made)

    def never() -> np.ndarray:
        raise AssertionError("a second contribution was made")

    np.testing.assert_array_equal(ContributionRecord(tmp_path, first, 1, SWIFT).once(never), made)
    with pytest.raises(Conflict, match="other members"):
        ContributionRecord(tmp_path, second, 1, SWIFT).once(never)
    (path,) = tmp_path.glob("contribution-*.usc")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(Damaged):
        record.once(never)
