"""A member that is interrupted at any point goes on with the same messages and loses nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.oracles.ceremonies import DIMENSION, joint_secret, prepare
from underseal_auditor.keys.ceremony import MemberSecrets, ceremony_member
from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.messages import CeremonyFailed, Commitment, Reveal, Round
from underseal_auditor.store.ceremony_journal import CeremonyJournal
from underseal_core.errors import Conflict, Damaged
from underseal_core.scheme.profiles import SWIFT

PASSPHRASE = b"correct horse"
RESTARTED = 2


class Party:
    """A member with its folder; :meth:`restart` forgets everything that is not in it."""

    def __init__(self, folder: Path, file: CeremonyFile, point: int, keys: MemberSecrets) -> None:
        self.folder, self.file, self.point, self.keys = folder, file, point, keys
        self.restart()

    def restart(self) -> None:
        self.journal = CeremonyJournal(self.folder, self.file, self.point, PASSPHRASE)
        keys = self.keys
        self.member = ceremony_member(
            self.file, self.point, keys.identity, keys.opening, self.journal
        )


def parties(folder: Path, threshold: int = 2, count: int = 3) -> list[Party]:
    file, members, _ = prepare(SWIFT, DIMENSION, threshold, count)
    return [
        Party(folder / str(point), file, point, keys) for point, keys in enumerate(members, start=1)
    ]


def play(all_of_them: list[Party], *, interrupted: bool) -> None:
    """Run all rounds; member 2 may be interrupted after each of its steps."""
    victim = all_of_them[RESTARTED - 1]

    def committed(party: Party) -> Commitment:
        first = party.member.commit()
        if interrupted and party is victim:
            party.restart()
            assert party.member.commit() == first
        return first

    def revealed(party: Party, commitments: list[Commitment]) -> Reveal:
        first = party.member.reveal(commitments)
        if interrupted and party is victim:
            party.restart()
            party.member.commit()
            assert party.member.reveal(commitments) == first
        return first

    for _ in Round:
        commitments = [committed(party) for party in all_of_them]
        reveals = [revealed(party, commitments) for party in all_of_them]
        for party in all_of_them:
            party.member.receive(reveals)
        if interrupted:
            victim.restart()


def test_member_interrupted_after_every_step_ends_with_the_same_keys(tmp_path: Path) -> None:
    everyone = parties(tmp_path)
    play(everyone, interrupted=True)
    outcomes = [party.member.outcome for party in everyone]
    shares = [outcome.share for outcome in outcomes if outcome is not None]
    assert len({share.epoch for share in shares}) == 1
    secret = joint_secret(tuple(shares[:2]))
    assert np.array_equal(joint_secret(tuple(shares[1:])), secret)
    assert np.array_equal(joint_secret((shares[0], shares[2])), secret)


def test_secret_is_on_disk_only_until_its_shares_are_dealt(tmp_path: Path) -> None:
    everyone = parties(tmp_path)
    path = everyone[0].folder / "secret.sealed"
    there = {}
    for round_ in Round:
        commitments = [party.member.commit() for party in everyone]
        there[round_] = path.exists()
        if path.exists():
            seed = everyone[0].journal.secret_seed()
            assert seed is not None
            assert seed not in path.read_bytes()
            assert path.stat().st_mode & 0o77 == 0
        reveals = [party.member.reveal(commitments) for party in everyone]
        for party in everyone:
            party.member.receive(reveals)
    assert [round_ for round_, present in there.items() if present] == [Round.CONTRIBUTION]
    assert everyone[0].journal.secret_seed() is None


def test_member_does_not_accept_other_commitments_after_a_restart(tmp_path: Path) -> None:
    everyone = parties(tmp_path)
    victim = everyone[RESTARTED - 1]
    commitments = [party.member.commit() for party in everyone]
    victim.member.reveal(commitments)
    victim.restart()
    victim.member.commit()
    forged = [Commitment(Round.NONCE, 1, b"x" * 32), *commitments[1:]]
    with pytest.raises(CeremonyFailed, match="before"):
        victim.member.reveal(forged)


def test_changed_journal_is_noticed(tmp_path: Path) -> None:
    everyone = parties(tmp_path)
    commitments = [party.member.commit() for party in everyone]
    reveals = [party.member.reveal(commitments) for party in everyone]
    victim = everyone[RESTARTED - 1]
    victim.member.receive(reveals)
    path = victim.folder / "1-reveal-1"
    path.write_bytes(bytes(64))
    with pytest.raises(CeremonyFailed):
        victim.restart()
    path.write_bytes(b"short")
    with pytest.raises(Damaged):
        victim.restart()


def test_lost_secret_is_never_replaced_by_another(tmp_path: Path) -> None:
    everyone = parties(tmp_path)
    commitments = [party.member.commit() for party in everyone]
    reveals = [party.member.reveal(commitments) for party in everyone]
    victim = everyone[RESTARTED - 1]
    for party in everyone:
        party.member.receive(reveals)
    victim.member.commit()
    (victim.folder / "secret.sealed").unlink()
    with pytest.raises(Damaged, match="is gone"):
        victim.restart()


def test_folder_belongs_to_one_ceremony(tmp_path: Path) -> None:
    parties(tmp_path)
    with pytest.raises(Conflict, match="another ceremony"):
        parties(tmp_path)
