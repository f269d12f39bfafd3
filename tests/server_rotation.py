"""A key epoch after the server tests' own, with the switching key between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from tests.oracles.ceremonies import Finished
from tests.oracles.rotations import participants, plan
from tests.server_fixtures import DIMENSION, PROFILE, SIGMA, Lab, Vectors, ceremony, pin_of
from underseal_auditor.keys.ceremony import MemberSecrets, run_local
from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.decryption import Opener
from underseal_auditor.keys.rotation import run_rotation
from underseal_core.bundle import PublicBundle
from underseal_core.labels import OpeningKey
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.scheme.encryption import Encryptor
from underseal_core.signing import Identity
from underseal_core.statements import Pin
from underseal_core.switching import SwitchingKey


@dataclass(frozen=True)
class Succession:
    """Two epochs of 2 of 3, the second after the first, and the way between them."""

    old: Finished
    new: Finished
    key: SwitchingKey


def _ceremony(label: OpeningKey) -> Finished:
    profile = ceremony().bundle.profile
    members = tuple(MemberSecrets(Identity.generate(), OpeningKey.generate()) for _ in range(3))
    public = tuple(member.public() for member in members)
    file = CeremonyFile(profile, DIMENSION, 2, public, label.public)
    bundle, shares = run_local(file, members)
    return Finished(file, members, label, bundle, tuple(shares))


def follow(old: Finished) -> Succession:
    """Hold the next ceremony and rotate to it."""
    new = _ceremony(old.label_key)
    file = plan(old, new, (1, 3))
    return Succession(old, new, run_rotation(participants(old, new, file)))


@lru_cache(maxsize=1)
def succession() -> Succession:
    return follow(_ceremony(OpeningKey.generate()))


@dataclass(frozen=True)
class CouncilLab(Lab):
    """A lab of a ceremony's key epoch."""

    made: Finished = None  # type: ignore[assignment]  # always given

    @classmethod
    def of(cls, made: Finished) -> CouncilLab:
        return cls(PROFILE, DIMENSION, made)

    @property
    def bundle(self) -> PublicBundle:
        return self.made.bundle

    @property
    def encryptor(self) -> Encryptor:
        return Encryptor(self.bundle.profile, self.dimension, self.bundle.public_key)

    @property
    def pin(self) -> Pin:
        return pin_of(self.bundle)

    def open(self, ciphertext: Ciphertext) -> Vectors:
        return Opener(self.made.shares[:2], self.bundle).open(ciphertext, SIGMA)
