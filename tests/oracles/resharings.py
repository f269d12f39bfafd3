"""Re-sharings with all members in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

from tests.oracles.ceremonies import Finished, finished
from underseal_auditor.keys.ceremony import MemberSecrets, run_round
from underseal_auditor.keys.member import Member
from underseal_auditor.keys.resharing import Holding, Reshared, resharing_member
from underseal_auditor.keys.resharing_file import ResharingFile, ResharingRound
from underseal_auditor.keys.share import Share
from underseal_core.bundle import PublicBundle
from underseal_core.labels import OpeningKey
from underseal_core.roster import Roster
from underseal_core.signing import Envelope, Identity


@dataclass(frozen=True)
class Council:
    """Who holds which shares of a bundle's key."""

    bundle: PublicBundle
    roster: Roster
    identities: tuple[Identity, ...]
    shares: tuple[Share, ...]
    successions: tuple[Envelope, ...] = ()


def council(ceremony: Finished) -> Council:
    identities = tuple(member.identity for member in ceremony.members)
    return Council(ceremony.bundle, Roster.first(ceremony.bundle), identities, ceremony.shares)


def secrets_of(identities: Sequence[Identity]) -> tuple[MemberSecrets, ...]:
    return tuple(MemberSecrets(identity, OpeningKey.generate()) for identity in identities)


def copy_of(share: Share) -> Share:
    """The owner closes what it dealt; tests go on with the old share."""
    pairs = type(share.pairs)(share.point, share.members, bytearray(share.pairs.content))
    return Share(
        share.profile, share.epoch, share.threshold, share.secret.copy(), pairs, share.generation
    )


def members_of(
    before: Council, secrets: Sequence[MemberSecrets], keep: Callable[[Share], None] | None = None
) -> tuple[ResharingFile, list[Member[Reshared]]]:
    public = tuple(one.public() for one in secrets)
    file = ResharingFile.plan(before.bundle, before.roster, public)
    machines = []
    for point, one in enumerate(secrets, start=1):
        holding = Holding(
            before.bundle,
            lambda point=point: copy_of(before.shares[point - 1]),  # type: ignore[misc]
            keep or (lambda _: None),
        )
        machines.append(resharing_member(file, point, one.identity, one.opening, holding))
    return file, machines


def reshare(before: Council, identities: Sequence[Identity]) -> Council:
    """Deal the shares of a council anew to these identities, by point."""
    with ExitStack() as stack:
        _, machines = members_of(before, secrets_of(identities))
        for machine in machines:
            stack.enter_context(machine)
        for _ in ResharingRound:
            run_round(machines)
    outcomes = [machine.outcome for machine in machines]
    envelope = outcomes[0].succession
    assert all(outcome.succession == envelope for outcome in outcomes)
    return Council(
        before.bundle,
        before.roster.succeeded(envelope),
        tuple(identities),
        tuple(outcome.share for outcome in outcomes),
        (*before.successions, envelope),
    )


@cache
def refreshed(threshold: int, count: int) -> tuple[Council, Council]:
    """A council before and after a refresh."""
    before = council(finished(threshold=threshold, count=count))
    return before, reshare(before, before.identities)


@cache
def replaced(threshold: int, count: int) -> tuple[Council, Council]:
    """A council before and after its last member gave way to a new one."""
    before = council(finished(threshold=threshold, count=count))
    return before, reshare(before, (*before.identities[:-1], Identity.generate()))
