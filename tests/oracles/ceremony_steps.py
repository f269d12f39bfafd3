"""Ceremonies step by step, with a member that sends something else than it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.oracles.ceremonies import prepare
from underseal_auditor.keys.ceremony import ceremony_member
from underseal_auditor.keys.member import Member
from underseal_auditor.keys.messages import Round
from underseal_auditor.keys.phases import Outcome
from underseal_core.scheme.profiles import SWIFT

Mutation = Callable[[bytes], bytes]


def step(machines: Sequence[Member[Outcome]]) -> None:
    commitments = [machine.commit() for machine in machines]
    reveals = [machine.reveal(commitments) for machine in machines]
    for machine in machines:
        machine.receive(reveals)


def machines_before(round_: Round, count: int = 3, threshold: int = 2) -> list[Member[Outcome]]:
    file, members, _ = prepare(SWIFT, 2, threshold, count)
    machines = [
        ceremony_member(file, point, member.identity, member.opening)
        for point, member in enumerate(members, start=1)
    ]
    for _ in range(round_ - 1):
        step(machines)
    return machines


def deliver_forged(machines: Sequence[Member[Outcome]], mutate: Mutation) -> None:
    """The last member commits to, and reveals, a changed message. The others receive it."""
    commitments = [machine.commit() for machine in machines]
    reveals = [machine.reveal(commitments) for machine in machines]
    own = reveals[-1]
    forged = replace(own, payload=mutate(own.payload))
    digest = machines[0]._file.digest
    for machine in machines[:-1]:
        machine._commitments = (*commitments[:-1], forged.commitment(digest))
        machine.receive([*reveals[:-1], forged])
