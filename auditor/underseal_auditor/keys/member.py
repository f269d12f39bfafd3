"""One member of the ceremony: a state machine without input or output.

Every round goes ``commit()`` -> all commitments -> ``reveal(commitments)`` -> all reveals ->
``receive(reveals)``. The driver carries the messages, in one process or over a network, and
cannot steer the keys: it may show members different messages, but then their transcripts differ,
and they do not sign the same key epoch. A member that raised an error is of no further use.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from underseal_auditor.keys.memory import ShortMemory
from underseal_auditor.keys.messages import (
    SALT_BYTES,
    CeremonyFailed,
    Commitment,
    OutOfTurn,
    Reveal,
    Round,
    Transcript,
    check_reveals,
    check_senders,
)
from underseal_auditor.keys.phases import Context, Nonces, Outcome, Phase
from underseal_auditor.keys.sampling import SecretStream
from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_auditor.keys.ceremony_file import CeremonyFile
    from underseal_auditor.keys.memory import Memory
    from underseal_core.labels import OpeningKey
    from underseal_core.signing import Identity


class Member:
    """A member's side of the ceremony.

    Parameters
    ----------
    file
        The ceremony that all members agreed on.
    point
        This member's position in the file, from 1.
    identity, opening
        Its private keys, whose public halves are in the file.
    memory
        Of this ceremony. A member made with what an earlier one remembered goes on where that one
        stopped; it repeats the messages that were made, and never makes others in their place.

    Raises
    ------
    InvalidInput
        The keys are not those at this position of the file.
    CeremonyFailed
        What is remembered contradicts itself.
    """

    def __init__(
        self,
        file: CeremonyFile,
        point: int,
        identity: Identity,
        opening: OpeningKey,
        memory: Memory | None = None,
    ) -> None:
        if not 1 <= point <= len(file.members):
            raise InvalidInput(f"the ceremony file has no member {point}")
        keys = file.members[point - 1]
        if (keys.signing, keys.sealing) != (identity.public_key, opening.public):
            raise InvalidInput(f"these are not the keys of member {point} in the ceremony file")
        self._file = file
        self._point = point
        self._memory = memory or ShortMemory()
        self._transcript = Transcript(file.digest)
        self._state: Phase | Outcome = Nonces(
            Context(file, point, identity, opening, SecretStream(), self._memory.secret_seed)
        )
        self._own: Reveal | None = None
        self._commitments: tuple[Commitment, ...] | None = None
        self._remember()

    @property
    def round(self) -> Round | None:
        """The round that this member is in; None once the last one is over."""
        return None if isinstance(self._state, Outcome) else self._state.round

    @property
    def outcome(self) -> Outcome | None:
        """Bundle and share once the last round is over."""
        return self._state if isinstance(self._state, Outcome) else None

    def commit(self) -> Commitment:
        """Make this round's message, or take the remembered one, and return its commitment.

        Raises
        ------
        OutOfTurn
            Already committed, or the ceremony is over.
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
        if phase.round is Round.RELINEARISATION:
            self._memory.forget_secret()
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
        check_senders(commitments, phase.round, len(self._file.members))
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
        check_senders(reveals, phase.round, len(self._file.members))
        check_reveals(reveals, self._commitments, self._file.digest)
        self._memory.keep_reveals(reveals)
        self._advance(phase, self._commitments, reveals)

    def _advance(
        self, phase: Phase, commitments: Sequence[Commitment], reveals: Sequence[Reveal]
    ) -> None:
        self._transcript.add(commitments, reveals)
        payloads = [reveal.payload for reveal in reveals]
        self._state = phase.next(payloads, self._transcript.digest())
        self._own = None
        self._commitments = None

    def _remember(self) -> None:
        """Go through all rounds whose messages are remembered."""
        for round_ in Round:
            commitments, reveals = self._memory.commitments(round_), self._memory.reveals(round_)
            own = self._memory.own(round_)
            if commitments is None or reveals is None or own is None:
                return
            check_senders(commitments, round_, len(self._file.members))
            check_senders(reveals, round_, len(self._file.members))
            check_reveals(reveals, commitments, self._file.digest)
            if reveals[self._point - 1] != own:
                raise CeremonyFailed(f"what member {self._point} remembers is damaged")
            if round_ is Round.RELINEARISATION:
                self._memory.forget_secret()
            self._advance(self._phase(), commitments, reveals)

    def _phase(self) -> Phase:
        if isinstance(self._state, Outcome):
            raise OutOfTurn("the ceremony is over")
        return self._state
