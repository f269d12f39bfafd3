"""Rotations between ceremonies that several tests look at, run once per process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from tests.oracles.ceremonies import DIMENSION, Finished, finished, prepare
from underseal_auditor.keys.ceremony import run_local
from underseal_auditor.keys.member import Member
from underseal_auditor.keys.rotation import RotationContext, rotation_member, run_rotation
from underseal_auditor.keys.rotation_file import RotationFile
from underseal_auditor.keys.sampling import SecretStream
from underseal_core.roster import Generation, Roster
from underseal_core.signing import Identity
from underseal_core.switching import SwitchingKey


@dataclass(frozen=True)
class Rotated:
    old: Finished
    new: Finished
    file: RotationFile
    key: SwitchingKey


def successor(old: Finished, threshold: int, count: int, staying: int = 0) -> Finished:
    """Hold another ceremony with the label key of ``old``; its first members stay on."""
    bundle = old.bundle
    file, members, _ = prepare(bundle.profile, bundle.dimension, threshold, count)
    everybody = old.members[:staying] + members[staying:]
    public = tuple(member.public() for member in everybody)
    file = replace(file, label_key=bundle.label_key, members=public)
    made, shares = run_local(file, everybody)
    return Finished(file, everybody, old.label_key, made, tuple(shares))


def plan(old: Finished, new: Finished, active: tuple[int, ...]) -> RotationFile:
    return RotationFile.plan(old.bundle, Roster.first(old.bundle), active, new.bundle)


def context(old: Finished, new: Finished, file: RotationFile, participant: int) -> RotationContext:
    key = file.signing_keys[participant - 1]
    old_point, new_point = file.old_point(participant), file.new_point(participant)
    return RotationContext(
        file=file,
        participant=participant,
        old=old.bundle,
        new=new.bundle,
        identity=identity_of(key, old, new),
        old_share=None if old_point is None else old.shares[old_point - 1],
        new_share=None if new_point is None else new.shares[new_point - 1],
        generation=Generation(0, old.bundle.epoch),
        once=lambda make: make(),
        stream=SecretStream(),
    )


def identity_of(key: bytes, *ceremonies: Finished) -> Identity:
    identities = [member.identity for one in ceremonies for member in one.members]
    return next(identity for identity in identities if identity.public_key == key)


def participants(old: Finished, new: Finished, file: RotationFile) -> list[Member[SwitchingKey]]:
    numbers = range(1, len(file.signing_keys) + 1)
    return [rotation_member(context(old, new, file, number)) for number in numbers]


@cache
def rotated(
    name: str = "swift",
    before: tuple[int, int] = (2, 3),
    after: tuple[int, int] = (2, 3),
    staying: int = 0,
    dimension: int = DIMENSION,
) -> Rotated:
    """``before`` and ``after`` are (threshold, members); the last k old members contribute."""
    old = finished(name, *before, dimension)
    new = successor(old, *after, staying)
    active = tuple(range(before[1] - before[0] + 1, before[1] + 1))
    file = plan(old, new, active)
    return Rotated(old, new, file, run_rotation(participants(old, new, file)))
