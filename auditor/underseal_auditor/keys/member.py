"""One member of the ceremony: a state machine without input or output.

Every round goes ``commit()`` -> all commitments -> ``reveal(commitments)`` -> all reveals ->
``receive(reveals)``. The driver carries the messages, in one process or over a network, and
cannot steer the keys: it may show members different messages, but then their transcripts differ,
and they do not sign the same key epoch. A member that raised an error is of no further use.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

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
from underseal_auditor.keys.phases import Context, Nonces, Outcome, Phase
from underseal_auditor.keys.sampling import SecretStream
from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_auditor.keys.ceremony_file import CeremonyFile
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

    Raises
    ------
    InvalidInput
        The keys are not those at this position of the file.
    """

    def __init__(
        self, file: CeremonyFile, point: int, identity: Identity, opening: OpeningKey
    ) -> None:
        if not 1 <= point <= len(file.members):
            raise InvalidInput(f"the ceremony file has no member {point}")
        keys = file.members[point - 1]
        if (keys.signing, keys.sealing) != (identity.public_key, opening.public):
            raise InvalidInput(f"these are not the keys of member {point} in the ceremony file")
        self._file = file
        self._point = point
        self._transcript = Transcript(file.digest)
        self._state: Phase | Outcome = Nonces(
            Context(file, point, identity, opening, SecretStream())
        )
        self._own: Reveal | None = None
        self._commitments: tuple[Commitment, ...] | None = None

    @property
    def outcome(self) -> Outcome | None:
        """Bundle and share once the last round is over."""
        return self._state if isinstance(self._state, Outcome) else None

    def commit(self) -> Commitment:
        """Make this round's message and return the commitment to it.

        Raises
        ------
        OutOfTurn
            Already committed, or the ceremony is over.
        """
        phase = self._phase()
        if self._own is not None:
            raise OutOfTurn("this member has already committed in this round")
        salt = secrets.token_bytes(SALT_BYTES)
        self._own = Reveal(phase.round, self._point, salt, phase.payload())
        return self._own.commitment(self._file.digest)

    def reveal(self, commitments: Sequence[Commitment]) -> Reveal:
        """Return the message, given all members' commitments.

        Raises
        ------
        OutOfTurn
            Not yet committed, or a commitment is missing.
        CeremonyFailed
            This member's own commitment was changed on the way.
        """
        phase = self._phase()
        if self._own is None or self._commitments is not None:
            raise OutOfTurn("a member commits once, then reveals once")
        check_senders(commitments, phase.round, len(self._file.members))
        if commitments[self._point - 1] != self._own.commitment(self._file.digest):
            raise CeremonyFailed(f"the commitment of member {self._point} was changed")
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
        self._transcript.add(self._commitments, reveals)
        payloads = [reveal.payload for reveal in reveals]
        self._state = phase.next(payloads, self._transcript.digest())
        self._own = None
        self._commitments = None

    def _phase(self) -> Phase:
        if isinstance(self._state, Outcome):
            raise OutOfTurn("the ceremony is over")
        return self._state
