"""Drivers of the ceremony with all members in one process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from underseal_auditor.keys.ceremony_file import CeremonyFile, MemberKeys
from underseal_auditor.keys.member import Member
from underseal_auditor.keys.messages import Round
from underseal_core.errors import InvalidInput
from underseal_core.labels import OpeningKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from underseal_auditor.keys.share import Share
    from underseal_core.bundle import PublicBundle
    from underseal_core.scheme.profiles import Profile
    from underseal_core.signing import Identity


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
    machines = [
        Member(file, point, member.identity, member.opening)
        for point, member in enumerate(members, start=1)
    ]
    for round_ in Round:
        _run_round(machines)
        if progress is not None:
            progress(round_)
    outcomes = [machine.outcome for machine in machines]
    finished = [outcome for outcome in outcomes if outcome is not None]
    return finished[0].bundle, [outcome.share for outcome in finished]


def run_sole(
    profile: Profile,
    dimension: int,
    identity: Identity,
    progress: Callable[[Round], None] | None = None,
) -> SoleCeremony:
    """Run the ceremony of a deployment with one auditor: n = 1, k = 1.

    Parameters
    ----------
    dimension
        A power of two; see :func:`underseal_core.scheme.profiles.padded_dimension`.
    identity
        The auditor's signing identity.
    """
    label_key = OpeningKey.generate()
    member = MemberSecrets(identity, OpeningKey.generate())
    file = CeremonyFile(profile, dimension, 1, (member.public(),), label_key.public)
    bundle, (share,) = run_local(file, [member], progress)
    return SoleCeremony(bundle, share, label_key)


def _run_round(machines: Sequence[Member]) -> None:
    commitments = [machine.commit() for machine in machines]
    reveals = [machine.reveal(commitments) for machine in machines]
    for machine in machines:
        machine.receive(reveals)
