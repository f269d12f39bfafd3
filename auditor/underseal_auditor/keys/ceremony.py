"""Drivers of the ceremony with all members in one process."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from underseal_auditor.keys.ceremony_file import CeremonyFile, MemberKeys
from underseal_auditor.keys.member import Member
from underseal_auditor.keys.memory import ShortMemory
from underseal_auditor.keys.messages import Round
from underseal_auditor.keys.phases import Context, Outcome, first_phase
from underseal_auditor.keys.sampling import SecretStream
from underseal_core.errors import InvalidInput
from underseal_core.labels import OpeningKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from underseal_auditor.keys.memory import Memory
    from underseal_auditor.keys.share import Share
    from underseal_core.bundle import PublicBundle
    from underseal_core.scheme.profiles import Profile
    from underseal_core.signing import Identity


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MemberSecrets:
    """A member's private keys: the one that signs and the one that opens dealt shares."""

    identity: Identity
    opening: OpeningKey

    def public(self) -> MemberKeys:
        """Return the public halves, for the ceremony file."""
        return MemberKeys(self.identity.public_key, self.opening.public)


@dataclass(frozen=True, slots=True)
class SoleCeremony:
    """Outcome of a ceremony with one member: public bundle, its share and the label key."""

    bundle: PublicBundle
    share: Share
    label_key: OpeningKey


def ceremony_member(
    file: CeremonyFile,
    point: int,
    identity: Identity,
    opening: OpeningKey,
    memory: Memory | None = None,
) -> Member[Outcome]:
    """Return a member at the start of the ceremony, or where an earlier one with its memory was.

    Parameters
    ----------
    identity, opening
        Its private keys, whose public halves are in the file.
    memory
        Of this ceremony; left out for one that ends in this process or not at all.

    Raises
    ------
    InvalidInput
        The keys are not those at this position of the file.
    CeremonyFailed
        What is remembered contradicts itself.
    """
    if not 1 <= point <= len(file.members):
        raise InvalidInput(f"the ceremony file has no member {point}")
    keys = file.members[point - 1]
    if (keys.signing, keys.sealing) != (identity.public_key, opening.public):
        raise InvalidInput(f"these are not the keys of member {point} in the ceremony file")
    kept = memory or ShortMemory()
    context = Context(
        file, point, identity, opening, SecretStream(), kept.secret_seed, kept.forget_secret
    )
    return Member(file, point, first_phase(context), kept)


def run_local(
    file: CeremonyFile,
    members: Sequence[MemberSecrets],
    progress: Callable[[Round], None] | None = None,
) -> tuple[PublicBundle, list[Share]]:
    """Run a whole ceremony in this process.

    Parameters
    ----------
    file
        The ceremony.
    members
        Private keys of all members, in the order of the file.
    progress
        Called after every round.

    Returns
    -------
    PublicBundle, list of Share
        The signed bundle and one share per member, in order.

    Raises
    ------
    InvalidInput
        The keys are not those of the file.
    CeremonyFailed
        A check failed; nothing of this ceremony may be used.
    """
    if len(members) != len(file.members):
        raise InvalidInput("the ceremony needs the keys of all members")
    with ExitStack() as stack:
        machines = [
            stack.enter_context(ceremony_member(file, point, member.identity, member.opening))
            for point, member in enumerate(members, start=1)
        ]
        for round_ in Round:
            run_round(machines)
            if progress is not None:
                progress(round_)
    outcomes = [machine.outcome for machine in machines]
    return outcomes[0].bundle, [outcome.share for outcome in outcomes]


def run_sole(
    profile: Profile,
    dimension: int,
    identity: Identity,
    progress: Callable[[Round], None] | None = None,
    labels: OpeningKey | None = None,
) -> SoleCeremony:
    """Run the ceremony of a deployment with one auditor: n = 1, k = 1.

    Parameters
    ----------
    dimension
        A power of two; see :func:`underseal_core.scheme.profiles.padded_dimension`.
    identity
        The auditor's signing identity.
    progress
        Called after every round.
    labels
        The label key of the epoch before, to move its galleries; a new one when left out.
    """
    label_key = labels or OpeningKey.generate()
    member = MemberSecrets(identity, OpeningKey.generate())
    file = CeremonyFile(profile, dimension, 1, (member.public(),), label_key.public)
    bundle, (share,) = run_local(file, [member], progress)
    return SoleCeremony(bundle, share, label_key)


def run_round(machines: Sequence[Member[T]]) -> None:
    """Carry all messages of one round between members of this process."""
    commitments = [machine.commit() for machine in machines]
    reveals = [machine.reveal(commitments) for machine in machines]
    for machine in machines:
        machine.receive(reveals)
