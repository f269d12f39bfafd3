"""Ceremonies that several tests look at, run once per process, and the joint secret."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from underseal_auditor.keys.ceremony import MemberSecrets, run_local
from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.share import Share
from underseal_core.bundle import PublicBundle
from underseal_core.labels import OpeningKey
from underseal_core.scheme.profiles import Profile, profile_named
from underseal_core.signing import Identity

DIMENSION = 16


@dataclass(frozen=True)
class Finished:
    file: CeremonyFile
    members: tuple[MemberSecrets, ...]
    label_key: OpeningKey
    bundle: PublicBundle
    shares: tuple[Share, ...]


def prepare(
    profile: Profile, dimension: int, threshold: int, count: int
) -> tuple[CeremonyFile, tuple[MemberSecrets, ...], OpeningKey]:
    members = tuple(MemberSecrets(Identity.generate(), OpeningKey.generate()) for _ in range(count))
    label_key = OpeningKey.generate()
    public = tuple(member.public() for member in members)
    return CeremonyFile(profile, dimension, threshold, public, label_key.public), members, label_key


@cache
def finished(
    name: str = "swift", threshold: int = 1, count: int = 1, dimension: int = DIMENSION
) -> Finished:
    file, members, label_key = prepare(profile_named(name), dimension, threshold, count)
    bundle, shares = run_local(file, members)
    return Finished(file, members, label_key, bundle, tuple(shares))


def joint_secret(shares: tuple[Share, ...]) -> npt.NDArray[np.uint32]:
    """Interpolate ``s`` at key level, (L + 1, N), in plain integer arithmetic."""
    profile = shares[0].profile
    primes = profile.key_primes
    points = [share.point for share in shares]
    rows = []
    for index, prime in enumerate(primes):
        row = np.zeros(profile.degree, dtype=object)
        for share in shares:
            weight = 1
            for other in points:
                if other != share.point:
                    weight = weight * other * pow(other - share.point, -1, prime) % prime
            row = (row + weight * share.secret[index].astype(object)) % prime
        rows.append(row.astype(np.uint32))
    return np.stack(rows)
