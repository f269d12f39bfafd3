"""What a member remembers of a ceremony, so that it can go on after an interruption."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from enum import IntEnum

    from underseal_auditor.keys.messages import Commitment, Reveal

SECRET_SEED_BYTES: Final = 32


class Memory(Protocol):
    """Messages of the rounds so far, and the seed of the secret until its shares are dealt.

    What a ``keep`` method was given is kept for good once it returns: a member shows a message to
    others only then, so it never makes a second one for the same round.
    """

    def secret_seed(self) -> bytes | None:
        """Return the 32 bytes of the secret, drawn at the first call; None once forgotten."""
        ...

    def forget_secret(self) -> None:
        """Delete the seed, for good; again does nothing."""
        ...

    def own(self, round_: IntEnum) -> Reveal | None:
        """Return this member's own message of a round, if it was made."""
        ...

    def commitments(self, round_: IntEnum) -> tuple[Commitment, ...] | None:
        """Return all members' commitments of a round, if they were all there."""
        ...

    def reveals(self, round_: IntEnum) -> tuple[Reveal, ...] | None:
        """Return all members' messages of a round, if they were all there."""
        ...

    def keep_own(self, reveal: Reveal) -> None:
        """Keep this member's own message."""
        ...

    def keep_commitments(self, commitments: Sequence[Commitment]) -> None:
        """Keep all members' commitments of a round."""
        ...

    def keep_reveals(self, reveals: Sequence[Reveal]) -> None:
        """Keep all members' messages of a round, checked against their commitments."""
        ...


class ShortMemory:
    """Of a ceremony that ends in this process or not at all: keeps the seed, and that in memory."""

    def __init__(self) -> None:
        self._seed: bytes | None = secrets.token_bytes(SECRET_SEED_BYTES)

    def secret_seed(self) -> bytes | None:
        """See :class:`Memory`."""
        return self._seed

    def forget_secret(self) -> None:
        """See :class:`Memory`."""
        self._seed = None

    def own(self, round_: IntEnum) -> Reveal | None:
        """See :class:`Memory`; always None."""
        return None

    def commitments(self, round_: IntEnum) -> tuple[Commitment, ...] | None:
        """See :class:`Memory`; always None."""
        return None

    def reveals(self, round_: IntEnum) -> tuple[Reveal, ...] | None:
        """See :class:`Memory`; always None."""
        return None

    def keep_own(self, reveal: Reveal) -> None:
        """See :class:`Memory`; keeps nothing."""

    def keep_commitments(self, commitments: Sequence[Commitment]) -> None:
        """See :class:`Memory`; keeps nothing."""

    def keep_reveals(self, reveals: Sequence[Reveal]) -> None:
        """See :class:`Memory`; keeps nothing."""
