"""Who approved a request. Pure; the registrar and every guardian ask for themselves.

What counts is a signature, by the key that the policy has for a person, of a statement about
exactly this request and this result. Participants have different keys, so neither the client nor
the same person twice can make up two approvals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from underseal_auditor.policy.document import PolicyDocument
from underseal_auditor.policy.rules import CLOCK_SKEW
from underseal_core.errors import Damaged, InvalidInput, PermissionRefused
from underseal_core.oversight import Approval
from underseal_core.signing import Envelope
from underseal_core.statements import utc_moment

MAX_APPROVALS: Final = 16
"""Of one request: bounds the work that they can cause."""


class Subject(Protocol):
    """What is approved: a ``Chain``, a ``Submission``, or one that is pending."""

    @property
    def request_sha256(self) -> str:
        """Hex hash of the request."""
        ...

    @property
    def result_sha256(self) -> str:
        """Hex hash of its result."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """Names of the persons who approve and who refuse, sorted."""

    approving: tuple[str, ...]
    refusing: tuple[str, ...]


def open_approval(policy: PolicyDocument, envelope: Envelope) -> Approval:
    """Return an approval that is signed by the person it names.

    Raises
    ------
    InvalidInput
        Not an approval.
    PermissionRefused
        The policy does not name this person, or the signature is another's.
    """
    try:
        approval = Approval.parse(envelope.payload)
        section = policy.approvers.get(approval.approver)
        if section is None:
            raise PermissionRefused("the policy does not name this approver")
        return Approval.open(envelope, bytes.fromhex(section.key))
    except Damaged as error:
        raise InvalidInput(f"not an approval: {error.public}") from error


def standing(
    policy: PolicyDocument,
    subject: Subject,
    envelopes: Iterable[Envelope],
    now: datetime,
) -> Standing:
    """Return who decided what about a submission; what is not valid for it counts as nothing."""
    decided: dict[str, set[str]] = {"approve": set(), "refuse": set()}
    for envelope in envelopes:
        try:
            approval = open_approval(policy, envelope)
        except (InvalidInput, PermissionRefused):
            continue
        about = (approval.request_sha256, approval.result_sha256)
        issued, last = utc_moment(approval.at), utc_moment(approval.expires_at)
        if (
            about == (subject.request_sha256, subject.result_sha256)
            and issued - CLOCK_SKEW <= now <= last
        ):
            decided[approval.decision].add(approval.approver)
    refusing = decided["refuse"]
    return Standing(tuple(sorted(decided["approve"] - refusing)), tuple(sorted(refusing)))


def approving(
    policy: PolicyDocument, subject: Subject, envelopes: Sequence[Envelope], now: datetime
) -> tuple[str, ...]:
    """Return who approved a submission, sorted; nobody when somebody refused.

    Raises
    ------
    InvalidInput
        More statements than can matter.
    """
    if len(envelopes) > MAX_APPROVALS:
        raise InvalidInput("a submission has more approvals than can matter")
    found = standing(policy, subject, envelopes, now)
    return () if found.refusing else found.approving
