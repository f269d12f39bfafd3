"""Submissions that wait for persons, and what these persons decide.

Nothing of them is opened or announced. A person sees who asks, for what purpose and case, in which
gallery; a score does not exist yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from underseal_auditor.policy.approvals import open_approval, standing
from underseal_auditor.policy.document import PolicyDocument
from underseal_auditor.policy.rulebook import Rulebook
from underseal_auditor.policy.rules import deadline
from underseal_auditor.store.pending import Pending, PendingStore
from underseal_auditor.store.submission import Submission
from underseal_auditor.verify.chain import Chain, Sealed
from underseal_core.credentials import Peer
from underseal_core.errors import NotFound, PermissionRefused, Waiting
from underseal_core.signing import Envelope

_log: Final = structlog.get_logger("underseal.registrar")


@dataclass(frozen=True, slots=True)
class Case:
    """One that waits, for approvers: ``needed`` persons must approve, ``approving`` did."""

    pending: Pending
    needed: int
    approving: tuple[str, ...]
    refusing: tuple[str, ...]


class WaitingRoom:
    """Keeps submissions until enough persons have approved them.

    Parameters
    ----------
    clock
        Returns aware times.
    """

    def __init__(
        self, store: PendingStore, rulebook: Rulebook, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._rulebook = rulebook
        self._clock = clock

    def approvals(
        self,
        submission: Submission,
        chain: Chain,
        envelopes: tuple[Envelope, Envelope],
        sealed: Sealed,
    ) -> tuple[Envelope, ...]:
        """Return the approvals that the policy demands; none if it demands none.

        Raises
        ------
        Waiting
            Some are missing. The submission is kept, and goes on when its release is asked for.
        PermissionRefused
            A person refused it.
        Busy
            Too many wait already.
        """
        document, now = self._rulebook.policy.document, self._clock()
        purpose = document.purposes[chain.request.purpose]
        if not purpose.approvals_needed:
            return ()
        parts = {place: c.to_bytes() for place, c in sealed.everything().items()}
        self._store.put(submission, envelopes, parts, now, deadline(purpose, chain.request))
        given = self._store.approvals(submission.client, submission.request_id)
        found = standing(document, submission, given, now)
        if found.refusing:
            raise PermissionRefused(
                "a person refused this request",
                hint=f"ask the auditors, quoting request id {submission.request_id}",
            )
        left = purpose.approvals_needed - len(found.approving)
        if left > 0:
            raise Waiting(
                f"the request waits for the approval of {left} "
                f"{'person' if left == 1 else 'persons'}",
                hint=f"ask again later: underseal release show {submission.request_id}",
            )
        return given

    def find(self, client: str, request_id: str) -> Pending | None:
        """Return one of a client's submissions that wait."""
        return self._store.find(client, request_id, self._clock())

    def forget(self, submission: Submission) -> None:
        """Drop one that was answered."""
        self._store.forget(submission.client, submission.request_id)

    def cases(self, peer: Peer) -> list[Case]:
        """Return all that wait, oldest first, for a person whom the policy names.

        Raises
        ------
        PermissionRefused
            It does not name the caller.
        """
        document, now = self._rulebook.policy.document, self._clock()
        _check_approver(document, peer)
        return [self._case(document, pending, now) for pending in self._store.all(now)]

    def decide(self, peer: Peer, envelope: Envelope) -> Case:
        """Take note of what the caller decided about one that waits.

        Raises
        ------
        PermissionRefused
            The policy does not name the caller, or the statement is another's.
        InvalidInput
            Not an approval.
        NotFound
            No such submission waits.
        """
        document, now = self._rulebook.policy.document, self._clock()
        _check_approver(document, peer)
        approval = open_approval(document, envelope)
        if approval.approver != peer.name:
            raise PermissionRefused("the approval is another person's")
        about = (approval.request_sha256, approval.result_sha256)
        for pending in self._store.all(now):
            if (pending.request_sha256, pending.result_sha256) == about:
                self._store.decide(pending, peer.name, envelope)
                _log.info("decided", request=pending.request_id, approver=peer.name)
                return self._case(document, pending, now)
        raise NotFound("no such request waits for approval", hint="it may have expired")

    def _case(self, document: PolicyDocument, pending: Pending, now: datetime) -> Case:
        given = self._store.approvals(pending.client, pending.request_id)
        found = standing(document, pending, given, now)
        section = document.purposes.get(pending.purpose)
        needed = 0 if section is None else section.approvals_needed
        return Case(pending, needed, found.approving, found.refusing)


def _check_approver(document: PolicyDocument, peer: Peer) -> None:
    section = document.approvers.get(peer.name)
    if section is None or bytes.fromhex(section.key) != peer.key:
        raise PermissionRefused(
            "the policy names no approver with this name and key", hint="ask the auditors"
        )
