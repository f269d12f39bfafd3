"""Shares on their way from each member to each: sealed with HPKE, bound to the ceremony.

With the value of the sender's polynomial travels its half of the secret that the two share (see
``pairs.py``); to itself a member sends what all its halves come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from underseal_auditor.keys.elements import key_primes
from underseal_auditor.keys.pairs import SEED_BYTES
from underseal_core.labels import SEALING_OVERHEAD_BYTES
from underseal_core.scheme.fields import FieldReader

if TYPE_CHECKING:
    from underseal_auditor.keys.ceremony_file import CeremonyFile
    from underseal_core.labels import OpeningKey, SealingKey
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.profiles import Profile

_DOMAIN: Final = b"underseal/v1/ceremony-share\x00"


@dataclass(frozen=True, slots=True)
class Delivery:
    """Which share: dealt in the ceremony of ``seed`` by ``sender`` to ``recipient``."""

    file: CeremonyFile
    seed: bytes
    sender: int
    recipient: int

    def info(self) -> bytes:
        """Return what the sealing is bound to."""
        points = bytes((self.sender, self.recipient))
        return _DOMAIN + self.file.digest + self.seed + points

    def seal(self, key: SealingKey, value: Residues, half: bytes) -> bytes:
        """Seal the dealt value, shape ``(fresh_level + 1, degree)``, and 32 bytes."""
        return key.seal(value.astype("<u4", copy=False).tobytes() + half, self.info())

    def open(self, key: OpeningKey, sealed: bytes) -> tuple[Residues, bytes]:
        """Open and parse a dealt value and what came with it.

        Raises
        ------
        Damaged
            It does not open under this key for this delivery.
        InvalidInput
            It holds something else.
        """
        reader = FieldReader(key.open(sealed, self.info()))
        value = reader.key_residues(self.file.profile, ())
        half = reader.take(SEED_BYTES)
        reader.finish()
        return value, half


def sealed_size(profile: Profile) -> int:
    """Exact number of bytes of a sealed value."""
    return SEALING_OVERHEAD_BYTES + 4 * len(key_primes(profile)) * profile.degree + SEED_BYTES
