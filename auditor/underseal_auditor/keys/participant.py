"""What a ceremony and a re-sharing have in common: members who end with shares of one key."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from underseal_auditor.keys.assembly import Assembly
from underseal_auditor.keys.member import Phase
from underseal_auditor.keys.messages import CeremonyFailed, Round

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from underseal_auditor.keys.ceremony_file import MemberKeys
    from underseal_auditor.keys.sampling import Stream
    from underseal_core.labels import OpeningKey
    from underseal_core.scheme.profiles import Profile
    from underseal_core.signing import Identity

T = TypeVar("T")

NONCE_BYTES: Final = 32
_SEED_DOMAIN: Final = b"underseal/v1/ceremony-seed\x00"


class Sharing(Assembly, Protocol):
    """An assembly that shares a key: ``threshold`` of ``members`` will open.

    ``dealers``: points of the members who deal a value to everybody.
    """

    @property
    def profile(self) -> Profile:
        """Parameters of the key."""
        ...

    @property
    def dimension(self) -> int:
        """Of the templates."""
        ...

    @property
    def threshold(self) -> int:
        """See the class."""
        ...

    @property
    def members(self) -> tuple[MemberKeys, ...]:
        """See the class."""
        ...

    @property
    def dealers(self) -> tuple[int, ...]:
        """See the class."""
        ...


@dataclass(frozen=True, slots=True)
class Participant:
    """What a member brings: the file, its point, its keys and its source of randomness."""

    file: Sharing
    point: int
    identity: Identity
    opening: OpeningKey
    stream: Stream


class Nonces(Phase[T]):
    """Everyone draws a nonce; their hash seeds what is random and common.

    Parameters
    ----------
    then
        Makes the next phase from the 32 bytes of the seed.
    """

    round = Round.NONCE

    def __init__(self, file: Assembly, then: Callable[[bytes], Phase[T]]) -> None:
        self._file = file
        self._then = then

    def payload(self) -> bytes:
        """Draw the nonce."""
        return secrets.token_bytes(NONCE_BYTES)

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Phase[T]:
        """Derive the seed."""
        for point, nonce in enumerate(payloads, start=1):
            if len(nonce) != NONCE_BYTES:
                raise CeremonyFailed(f"the message of member {point} is malformed")
        material = _SEED_DOMAIN + self._file.digest + b"".join(payloads)
        return self._then(hashlib.sha256(material).digest())
