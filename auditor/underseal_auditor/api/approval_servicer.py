"""ApprovalService: the network's side of ``waiting_room.py``."""

from __future__ import annotations

import asyncio

from underseal_auditor.waiting_room import Case, WaitingRoom
from underseal_auditor.wire import envelope_from_wire, envelope_to_wire
from underseal_core.rpc.access import Context, current_peer
from underseal_proto.v1 import approval_pb2, approval_pb2_grpc


class ApprovalServicer(approval_pb2_grpc.ApprovalServiceServicer):
    """Serves one registrar's approvers."""

    def __init__(self, room: WaitingRoom) -> None:
        self._room = room

    async def ListPending(  # noqa: N802 generated name
        self, request: approval_pb2.ListPendingRequest, context: Context
    ) -> approval_pb2.ListPendingResponse:
        """Return what waits."""
        cases = await asyncio.to_thread(self._room.cases, current_peer())
        return approval_pb2.ListPendingResponse(pending=[_to_wire(case) for case in cases])

    async def Decide(  # noqa: N802 generated name
        self, request: approval_pb2.DecideRequest, context: Context
    ) -> approval_pb2.DecideResponse:
        """Take note of a decision."""
        envelope = envelope_from_wire(request.approval)
        case = await asyncio.to_thread(self._room.decide, current_peer(), envelope)
        return approval_pb2.DecideResponse(pending=_to_wire(case))


def _to_wire(case: Case) -> approval_pb2.PendingRequest:
    """Return the message for a submission that waits for persons."""
    pending = case.pending
    return approval_pb2.PendingRequest(
        request=envelope_to_wire(pending.request),
        result_sha256=pending.result_sha256,
        submitted_at=pending.submitted_at,
        expires_at=pending.expires_at,
        needed=case.needed,
        approving=case.approving,
        refusing=case.refusing,
    )
