"""One member of a protocol in rounds: a state machine without input or output.

Every round goes ``commit()`` -> all commitments -> ``reveal(commitments)`` -> all reveals ->
``receive(reveals)``. The driver carries the messages, in one process or over a network, and
cannot steer the outcome: it may show members different messages, but then their transcripts differ,
and they do not sign the same. A member that raised an error is of no further use.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from underseal_auditor.keys.messages import (
    SALT_BYTES,
    CeremonyFailed,
    Commitment,
    OutOfTurn,
    Reveal,
    Transcript,
    check_reveals,
    check_senders,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from enum import IntEnum
    from types import TracebackType

    from underseal_auditor.keys.assembly import Assembly
    from underseal_auditor.keys.memory import Memory

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ended(Generic[T]):
    """The last round is over."""

    outcome: T


class Phase(ABC, Generic[T]):
    """One round, seen by one member: what it sends, and what it makes of all answers."""

    round: IntEnum

    @abstractmethod
    def payload(self) -> bytes:
        """Make this member's message. Called once."""

    def kept(self) -> None:
        """Take note that the message is kept for good; again does nothing."""
        return

    @abstractmethod
    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Phase[T] | Ended[T]:
        """Take in all members' messages; ``transcript`` covers this round too."""

    def close(self) -> None:
        """Overwrite what is secret: the protocol ends here. Again does nothing."""
        return


class Member(Generic[T]):
    """A member's side of the protocol.

    As a context manager it overwrites its secrets at the end, but for those of the outcome.

    Parameters
    ----------
    file
        What all members agreed on.
    point
        This member's position in the file, from 1.
    first
        The first round.
    memory
        Of this protocol. A member made with what an earlier one remembered goes on where that one
        stopped; it repeats the messages that were made, and never makes others in their place.

    Raises
    ------
    CeremonyFailed
        What is remembered contradicts itself.
    """

    def __init__(self, file: Assembly, point: int, first: Phase[T], memory: Memory) -> None:
        self._file = file
        self._members = len(file.signing_keys)
        self._point = point
        self._memory = memory
        self._transcript = Transcript(file.digest)
        self._state: Phase[T] | Ended[T] = first
        self._own: Reveal | None = None
        self._commitments: tuple[Commitment, ...] | None = None
        try:
            self._remember()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Overwrite what is secret in the round that this member is in."""
        if not isinstance(self._state, Ended):
            self._state.close()

    @property
    def round(self) -> IntEnum | None:
        """The round that this member is in; None once the last one is over."""
        return None if isinstance(self._state, Ended) else self._state.round

    @property
    def outcome(self) -> T:
        """What the last round led to.

        Raises
        ------
        OutOfTurn
            It is not over yet.
        """
        if not isinstance(self._state, Ended):
            raise OutOfTurn("the last round is not over yet")
        return self._state.outcome

    def commit(self) -> Commitment:
        """Make this round's message, or take the remembered one, and return its commitment.

        Raises
        ------
        OutOfTurn
            Already committed, or the last round is over.
        """
        phase = self._phase()
        if self._own is not None:
            raise OutOfTurn("this member has already committed in this round")
        own = self._memory.own(phase.round)
        if own is None:
            salt = secrets.token_bytes(SALT_BYTES)
            own = Reveal(phase.round, self._point, salt, phase.payload())
            self._memory.keep_own(own)
        self._own = own
        phase.kept()
        return own.commitment(self._file.digest)

    def reveal(self, commitments: Sequence[Commitment]) -> Reveal:
        """Return the message, given all members' commitments.

        Raises
        ------
        OutOfTurn
            Not yet committed, or a commitment is missing.
        CeremonyFailed
            This member's own commitment was changed on the way, or somebody's since it was
            remembered.
        """
        phase = self._phase()
        if self._own is None or self._commitments is not None:
            raise OutOfTurn("a member commits once, then reveals once")
        check_senders(commitments, phase.round, self._members)
        if commitments[self._point - 1] != self._own.commitment(self._file.digest):
            raise CeremonyFailed(f"the commitment of member {self._point} was changed")
        known = self._memory.commitments(phase.round)
        if known is None:
            self._memory.keep_commitments(commitments)
        elif known != tuple(commitments):
            raise CeremonyFailed("a member committed to something else before")
        self._commitments = tuple(commitments)
        return self._own

    def receive(self, reveals: Sequence[Reveal]) -> None:
        """Take in all members' messages and go on to the next round.

        Raises
        ------
        OutOfTurn
            Not yet revealed, or a message is missing.
        CeremonyFailed
            A message does not match its commitment, or is wrong in itself.
        """
        phase = self._phase()
        if self._commitments is None:
            raise OutOfTurn("this member has not revealed yet")
        check_senders(reveals, phase.round, self._members)
        check_reveals(reveals, self._commitments, self._file.digest)
        self._memory.keep_reveals(reveals)
        self._advance(phase, self._commitments, reveals)

    def _advance(
        self, phase: Phase[T], commitments: Sequence[Commitment], reveals: Sequence[Reveal]
    ) -> None:
        self._transcript.add(commitments, reveals)
        payloads = [reveal.payload for reveal in reveals]
        self._state = phase.next(payloads, self._transcript.digest())
        self._own = None
        self._commitments = None

    def _remember(self) -> None:
        """Go through all rounds whose messages are remembered."""
        for round_ in self._file.rounds:
            commitments, reveals = self._memory.commitments(round_), self._memory.reveals(round_)
            own = self._memory.own(round_)
            if commitments is None or reveals is None or own is None:
                return
            check_senders(commitments, round_, self._members)
            check_senders(reveals, round_, self._members)
            check_reveals(reveals, commitments, self._file.digest)
            if reveals[self._point - 1] != own:
                raise CeremonyFailed(f"what member {self._point} remembers is damaged")
            phase = self._phase()
            phase.kept()
            self._advance(phase, commitments, reveals)

    def _phase(self) -> Phase[T]:
        if isinstance(self._state, Ended):
            raise OutOfTurn("the last round is over")
        return self._state
