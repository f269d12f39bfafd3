"""Shares on their way from each member to each: sealed with HPKE, bound to the run.

With the value of a dealer's polynomial travels its half of the secret that the two members share
(see ``pairs.py``); to itself a member sends what all its halves come from. Members who deal no
value send their halves alone.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from underseal_auditor.keys.elements import total
from underseal_auditor.keys.pairs import SEED_BYTES, PairSecrets, half_for
from underseal_auditor.keys.share import Share
from underseal_core.labels import SEALING_OVERHEAD_BYTES
from underseal_core.scheme.fields import FieldReader, plain_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from underseal_auditor.keys.participant import Sharing
    from underseal_core.labels import OpeningKey, SealingKey
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.profiles import Profile

NO_EPOCH: Final = "0" * 64
"""Of a share that is not bound to a key epoch yet."""
_DOMAIN: Final = b"underseal/v1/ceremony-share\x00"


@dataclass(frozen=True, slots=True)
class Delivery:
    """Which share: dealt in the run of ``seed`` by ``sender`` to ``recipient``."""

    file: Sharing
    seed: bytes
    sender: int
    recipient: int

    def info(self) -> bytes:
        """Return what the sealing is bound to."""
        points = bytes((self.sender, self.recipient))
        return _DOMAIN + self.file.digest + self.seed + points

    def seal(self, key: SealingKey, value: Residues | None, half: bytes) -> bytes:
        """Seal a dealer's value, shape ``(fresh_level + 1, degree)``, and 32 bytes."""
        content = b"" if value is None else plain_bytes(value)
        return key.seal(content + half, self.info())

    def open(self, key: OpeningKey, sealed: bytes) -> tuple[Residues | None, bytes]:
        """Open and parse a dealer's value and what came with it.

        Raises
        ------
        Damaged
            It does not open under this key for this delivery.
        InvalidInput
            It holds something else.
        """
        reader = FieldReader(key.open(sealed, self.info()))
        dealt = self.sender in self.file.dealers
        value = reader.plain_key_residues(self.file.profile, ()) if dealt else None
        half = reader.take(SEED_BYTES)
        reader.finish()
        return value, half


def sealed_size(profile: Profile, *, with_value: bool) -> int:
    """Exact number of bytes of what a member seals to another."""
    value = 4 * len(profile.key_primes) * profile.degree if with_value else 0
    return SEALING_OVERHEAD_BYTES + value + SEED_BYTES


def seal_parcels(
    file: Sharing, seed: bytes, sender: int, values: Sequence[Residues] | None
) -> list[bytes]:
    """Seal a member's dealt values, and its halves of new pair secrets, to every member.

    Parameters
    ----------
    values
        One for each member, in order; overwritten. None for a member who deals none.
    """
    master = secrets.token_bytes(SEED_BYTES)
    sealed = []
    for recipient, member in enumerate(file.members, start=1):
        half = master if recipient == sender else half_for(master, recipient)
        value = None if values is None else values[recipient - 1]
        sealed.append(Delivery(file, seed, sender, recipient).seal(member.sealing, value, half))
        if value is not None:
            value.fill(0)
    return sealed


def take_parcel(reader: FieldReader, file: Sharing, sender: int, point: int) -> bytes:
    """Return what a sender sealed to ``point``, out of what it sealed to all.

    Raises
    ------
    InvalidInput
        There are fewer bytes.
    """
    size = sealed_size(file.profile, with_value=sender in file.dealers)
    return [reader.take(size) for _ in file.members][point - 1]


@dataclass(slots=True, repr=False)
class Parcels:
    """What a member was dealt, in the order of the senders; values are overwritten at the end."""

    values: list[Residues] = field(default_factory=list)
    halves: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for dealt in self.values:
            dealt.fill(0)

    def open(self, delivery: Delivery, key: OpeningKey, sealed: bytes) -> None:
        """Open one parcel; see :meth:`Delivery.open`."""
        value, half = delivery.open(key, sealed)
        if value is not None:
            self.values.append(value)
        self.halves.append(half)

    def share(self, file: Sharing, point: int) -> Share:
        """Return the sum of all values as a share, of no epoch yet, with the pair secrets."""
        secret = total([value.copy() for value in self.values], file.profile.key_primes)
        pairs = PairSecrets.join(point, self.halves[point - 1], self.halves)
        return Share(file.profile, NO_EPOCH, file.threshold, secret, pairs)
