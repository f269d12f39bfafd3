"""A member killed before any of its writes goes on, and always has a share that others share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from tests.oracles.ceremonies import finished, joint_secret
from tests.oracles.resharings import Council, copy_of, council, members_of, secrets_of
from underseal_auditor.keys import share_file
from underseal_auditor.keys.ceremony import MemberSecrets
from underseal_auditor.keys.member import Member
from underseal_auditor.keys.messages import Commitment, Reveal
from underseal_auditor.keys.resharing import Holding, Reshared, resharing_member
from underseal_auditor.keys.resharing_file import ResharingFile, ResharingRound
from underseal_auditor.keys.sealed_file import Argon2Cost
from underseal_auditor.keys.share import Share
from underseal_auditor.store.ceremony_journal import CeremonyJournal
from underseal_auditor.store.share_folder import ShareFolder
from underseal_core.errors import Conflict, UndersealError
from underseal_core.log_entries import encode_entry
from underseal_core.roster import load_rosters

T = TypeVar("T")

PASSPHRASE = b"correct horse"
CHEAP = Argon2Cost(memory_kib=64, passes=1)
POINT = 2


class Killed(BaseException):
    """The process ends here."""


class Victim:
    """Member 2 with its folders; :meth:`restart` forgets everything that is not in them."""

    def __init__(self, root: Path, before: Council, file: ResharingFile, own: MemberSecrets):
        self.keys, self.state = root / "keys", root / "state"
        self.before, self.file, self.own = before, file, own
        self.keys.mkdir()
        before.bundle.save(self.keys / "bundle.usb")
        old = before.shares[POINT - 1]
        share_file.save(self.keys / "share.sealed", old, PASSPHRASE, CHEAP)
        self.restart()

    def restart(self) -> None:
        self.folder = ShareFolder(self.keys, PASSPHRASE, CHEAP)
        holding = Holding(self.before.bundle, self.folder.share, self.folder.keep)
        journal = CeremonyJournal(self.state, self.file, POINT, PASSPHRASE)
        self.member: Member[Reshared] = resharing_member(
            self.file, POINT, self.own.identity, self.own.opening, holding, journal
        )

    def held(self) -> set[int]:
        """Generations of which a whole share is in the folder."""
        found = set()
        for name in ("share.sealed", "share.next"):
            with suppress(UndersealError), share_file.load(self.keys / name, PASSPHRASE) as share:
                found.add(share.generation.number)
        return found

    def reveal(self, commitments: Sequence[Commitment]) -> Reveal:
        if self.member._own is None:
            self.member.commit()
        return self.member.reveal(commitments)

    def receive(
        self, round_: ResharingRound, commitments: Sequence[Commitment], reveals: Sequence[Reveal]
    ) -> None:
        if self.member.round != round_:
            return  # it remembers the whole round
        if self.member._commitments is None:
            self.reveal(commitments)
        self.member.receive(reveals)


class Writes:
    """Counts this process's durable steps, and ends it before one of them.

    The machine stays up, so nothing is flushed in earnest: that takes most of the time.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = 0
        self.last: int | None = None
        for owner, name in ((Path, "replace"), (Path, "unlink"), (Path, "hardlink_to")):
            monkeypatch.setattr(owner, name, self._counting(getattr(owner, name)))
        monkeypatch.setattr(os, "fsync", self._counting(lambda _: None))

    def _counting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.seen += 1
            if self.seen == self.last:
                raise Killed
            return real(*arguments, **named)

        return counted


def play(root: Path, before: Council, writes: Writes, kill_at: int | None) -> tuple[Victim, bool]:
    """Run a refresh; member 2 is killed before its ``kill_at``-th step on the disk."""
    secrets = secrets_of(before.identities)
    file, machines = members_of(before, secrets)
    others = [machine for point, machine in enumerate(machines, start=1) if point != POINT]
    victim = Victim(root, before, file, secrets[POINT - 1])
    writes.seen, writes.last, killed, signed = 0, kill_at, False, False

    def alive(action: Callable[[], T]) -> T:
        nonlocal killed
        try:
            return action()
        except Killed:
            killed = True
        writes.last = None
        held = victim.held()
        assert 0 in held or (signed and 1 in held)
        victim.restart()
        return action()

    for round_ in ResharingRound:
        commitments = [machine.commit() for machine in others]
        commitments.insert(POINT - 1, alive(lambda: victim.member.commit()))
        if round_ is ResharingRound.SIGNATURE:
            assert victim.held() == {0, 1}
        reveals = [machine.reveal(commitments) for machine in others]
        reveals.insert(POINT - 1, alive(lambda: victim.reveal(commitments)))  # noqa: B023
        for machine in others:
            machine.receive(reveals)
        signed = round_ is ResharingRound.SIGNATURE
        alive(lambda: victim.receive(round_, commitments, reveals))  # noqa: B023
    entry = encode_entry(machines[0].outcome.succession)
    assert encode_entry(victim.member.outcome.succession) == entry
    alive(lambda: victim.folder.install(entry))
    check(victim, before, machines[0].outcome.share)
    return victim, killed


def check(victim: Victim, before: Council, other: Share) -> None:
    roster = load_rosters(before.bundle, victim.keys / "bundle.usb", None)[-1]
    with victim.folder.share() as mine:
        assert mine.generation == other.generation == roster.generation
        assert np.array_equal(joint_secret((other, mine)), joint_secret(before.shares))
    names = {path.name for path in victim.keys.iterdir() if not path.name.startswith(".")}
    assert names == {"bundle.usb", "share.sealed", "successions.jsonl"}


def test_member_killed_before_any_write_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = council(finished(threshold=2, count=3, dimension=2))
    writes = Writes(monkeypatch)
    (tmp_path / "0").mkdir()
    _, killed = play(tmp_path / "0", before, writes, None)
    assert not killed
    total = writes.seen
    assert total > 60
    for number in range(1, total + 1):
        root = tmp_path / str(number)
        root.mkdir()
        _, killed = play(root, before, writes, number)
        assert killed


def test_install_again_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = council(finished(threshold=2, count=3, dimension=2))
    victim, _ = play(tmp_path, before, Writes(monkeypatch), None)
    path = victim.keys / "successions.jsonl"
    files = {path.name: path.read_bytes() for path in victim.keys.iterdir()}
    victim.folder.install(path.read_bytes().splitlines()[0])
    assert {path.name: path.read_bytes() for path in victim.keys.iterdir()} == files


def test_old_share_is_overwritten_before_it_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = council(finished(threshold=2, count=3, dimension=2))
    kept = tmp_path / "another name of the old file"
    real = ShareFolder.install

    def watched(self: ShareFolder, succession: bytes) -> None:
        kept.hardlink_to(tmp_path / "keys" / "share.sealed")
        assert any(kept.read_bytes())
        real(self, succession)

    monkeypatch.setattr(ShareFolder, "install", watched)
    play(tmp_path, before, Writes(monkeypatch), None)
    assert not any(kept.read_bytes())


def test_new_share_of_another_resharing_is_not_taken(tmp_path: Path) -> None:
    before = council(finished(threshold=2, count=3, dimension=2))
    folder = ShareFolder(tmp_path, PASSPHRASE, CHEAP)
    folder.keep(copy_of(before.shares[0]))
    folder.keep(copy_of(before.shares[0]))
    assert folder.pending
    other = copy_of(before.shares[0]).bound_to("ab" * 32, before.shares[0].generation)
    with pytest.raises(Conflict, match="another re-sharing"):
        folder.keep(other)
    assert (folder.abandon(), folder.abandon(), folder.pending) == (True, False, False)
