"""CeremonyService: a member's messages, for the other members."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from underseal_auditor.keys.assembly import Assembly
from underseal_auditor.keys.joining import Farewell
from underseal_auditor.keys.messages import Reveal
from underseal_auditor.keys.signed import SignedCommitment
from underseal_auditor.store.ceremony_journal import CeremonyJournal
from underseal_auditor.wire import commitment_to_wire, round_from_wire
from underseal_core.credentials import Role
from underseal_core.errors import Busy, Mismatch, PermissionRefused
from underseal_core.rpc.access import STANDARD_METHODS, AccessTable, Context, current_peer
from underseal_core.signing import Identity
from underseal_proto.v1 import ceremony_pb2, ceremony_pb2_grpc

SERVICE: Final = "underseal.v1.CeremonyService"

ACCESS: Final[AccessTable] = {
    f"/{SERVICE}/GetCommitment": frozenset({Role.AUDITOR}),
    f"/{SERVICE}/GetReveal": frozenset({Role.AUDITOR}),
    f"/{SERVICE}/GetCeremonyProgress": frozenset({Role.AUDITOR}),
    **STANDARD_METHODS,
}

PIECE_BYTES: Final = 1 << 20
RETRY_MS: Final = 200


@dataclass(frozen=True, slots=True)
class Desk:
    """What a member shows: the messages in its journal, under its identity."""

    file: Assembly
    identity: Identity
    journal: CeremonyJournal
    farewell: Farewell

    def commitment(self, round_: IntEnum) -> SignedCommitment:
        """Return the own commitment.

        Raises
        ------
        Busy
            Not made yet.
        """
        own = self.journal.own(round_)
        if own is None:
            raise Busy("this member has not committed in this round yet", retry_after_ms=RETRY_MS)
        return SignedCommitment.make(own.commitment(self.file.digest), self.file, self.identity)

    def reveal(self, round_: IntEnum) -> Reveal:
        """Return the own message.

        Raises
        ------
        Busy
            Somebody's commitment is missing here.
        """
        own = self.journal.own(round_)
        if own is None or self.journal.commitments(round_) is None:
            raise Busy("this member does not reveal in this round yet", retry_after_ms=RETRY_MS)
        return own


class CeremonyServicer(ceremony_pb2_grpc.CeremonyServiceServicer):
    """Serves one member of one ceremony."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def GetCommitment(  # noqa: N802 generated name
        self, request: ceremony_pb2.GetCommitmentRequest, context: Context
    ) -> ceremony_pb2.GetCommitmentResponse:
        """Return the own commitment of a round."""
        self._caller(request.ceremony)
        round_ = round_from_wire(request.round, self._desk.file.rounds)
        return commitment_to_wire(await asyncio.to_thread(self._desk.commitment, round_))

    async def GetReveal(  # noqa: N802 generated name
        self, request: ceremony_pb2.GetRevealRequest, context: Context
    ) -> AsyncIterator[ceremony_pb2.GetRevealResponse]:
        """Return the own message of a round."""
        self._caller(request.ceremony)
        round_ = round_from_wire(request.round, self._desk.file.rounds)
        reveal = await asyncio.to_thread(self._desk.reveal, round_)
        content = memoryview(reveal.salt + reveal.payload)
        for start in range(0, len(content), PIECE_BYTES):
            piece = bytes(content[start : start + PIECE_BYTES])
            yield ceremony_pb2.GetRevealResponse(piece=piece)

    async def GetCeremonyProgress(  # noqa: N802 generated name
        self, request: ceremony_pb2.GetCeremonyProgressRequest, context: Context
    ) -> ceremony_pb2.GetCeremonyProgressResponse:
        """Return whether this member is done, and take note whether the caller is."""
        point = self._caller(request.ceremony)
        finished = self._desk.farewell.asked_by(point, finished=request.finished)
        return ceremony_pb2.GetCeremonyProgressResponse(finished=finished)

    def _caller(self, ceremony: bytes) -> int:
        """Return the caller's point."""
        keys = self._desk.file.signing_keys
        peer = current_peer()
        if peer.key not in keys:
            raise PermissionRefused("the caller is no member of this ceremony")
        if ceremony != self._desk.file.digest:
            raise Mismatch(
                "this member takes part in another ceremony", hint="compare the ceremony files"
            )
        return keys.index(peer.key) + 1
