"""Messages of a protocol in rounds. In each, all members first commit to theirs, then reveal it.

So no member can choose its message after seeing another's; in particular nobody can steer the
sum of the public keys.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, TypeVar

from underseal_core.errors import Damaged, UndersealError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

SALT_BYTES: Final = 32
_DOMAIN: Final = b"underseal/v1/ceremony-commitment\x00"


class CeremonyFailed(Damaged):
    """A member's message is wrong. The ceremony is void: start a new one, perhaps without it."""


class OutOfTurn(UndersealError):
    """A step was asked for before the one that it follows. Wait for the others."""


class Round(IntEnum):
    """What is sent in each round, in order (OVERSIGHT section 5 has the formulas)."""

    NONCE = 1
    CONTRIBUTION = 2
    RELINEARISATION = 3
    DUMMY_SEARCH = 4
    PARTIAL_DECRYPTION = 5
    SIGNATURE = 6


@dataclass(frozen=True, slots=True)
class Commitment:
    """``digest``: 32 bytes; ``sender``: point of the member, from 1."""

    round: IntEnum
    sender: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Reveal:
    """What was committed to. ``payload`` is public; shares in it are sealed."""

    round: IntEnum
    sender: int
    salt: bytes
    payload: bytes

    def commitment(self, file_digest: bytes) -> Commitment:
        """Return the commitment to this message in the ceremony of this file."""
        head = bytes((self.round, self.sender)) + file_digest
        digest = hashlib.sha256(_DOMAIN + head + self.salt + self.payload).digest()
        return Commitment(self.round, self.sender, digest)


def check_senders(
    messages: Sequence[Commitment] | Sequence[Reveal], round_: IntEnum, members: int
) -> None:
    """Check that there is one message of this round from every member, in order.

    Raises
    ------
    OutOfTurn
        One is missing, superfluous, of another round or out of order.
    """
    senders = [message.sender for message in messages]
    rounds = {message.round for message in messages}
    if senders != list(range(1, members + 1)) or rounds != {round_}:
        raise OutOfTurn(f"the {round_.name.lower()} round needs one message of every member")


def check_reveals(
    reveals: Sequence[Reveal], commitments: Sequence[Commitment], file_digest: bytes
) -> None:
    """Check each message against its commitment.

    Raises
    ------
    CeremonyFailed
        A member revealed something else than it committed to.
    """
    for reveal, commitment in zip(reveals, commitments, strict=True):
        made = reveal.commitment(file_digest).digest
        if len(reveal.salt) != SALT_BYTES or not hmac.compare_digest(made, commitment.digest):
            raise CeremonyFailed(
                f"member {reveal.sender} revealed something else than it committed to"
            )


def parse_all(payloads: Sequence[bytes], parse: Callable[[int, bytes], T]) -> list[T]:
    """Parse every member's message, given its point.

    Raises
    ------
    CeremonyFailed
        A message is malformed; names its sender.
    """
    parsed = []
    for point, payload in enumerate(payloads, start=1):
        try:
            parsed.append(parse(point, payload))
        except UndersealError as error:
            raise CeremonyFailed(f"the message of member {point} is malformed") from error
    return parsed


class Transcript:
    """Running hash over a ceremony's file and all its public messages, in order."""

    def __init__(self, file_digest: bytes) -> None:
        self._hash = hashlib.sha256(b"underseal/v1/ceremony-transcript\x00" + file_digest)

    def add(self, commitments: Sequence[Commitment], reveals: Sequence[Reveal]) -> None:
        """Take in one whole round."""
        for commitment in commitments:
            self._hash.update(bytes((commitment.round, commitment.sender)) + commitment.digest)
        for reveal in reveals:
            self._hash.update(bytes((reveal.round, reveal.sender)) + reveal.salt)
            self._hash.update(len(reveal.payload).to_bytes(8, "big") + reveal.payload)

    def digest(self) -> bytes:
        """Return the hash so far, 32 bytes."""
        return self._hash.copy().digest()
