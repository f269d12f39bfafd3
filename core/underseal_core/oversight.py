"""What people sign about policies and requests.

Nobody alone puts a policy in force, and a request may need persons who looked at it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from underseal_core.statements import Id, Name, Sha256, Statement, Text, Time

Serial = Annotated[int, Field(ge=1, le=2**53 - 1)]
"""Rises with every change of a policy, so that an older one cannot come back."""


class PolicyApproval(Statement):
    """Signed by k members of a key epoch: the policy with this hash holds for their keys."""

    payload_type: ClassVar[str] = "application/vnd.underseal.policy-approval.v1+json"

    policy_sha256: Sha256
    policy_name: Text
    serial: Serial
    key_epoch: Sha256


class Approval(Statement):
    """Signed by an approver: a person who looked at one request, and answers for the decision.

    It is for this request and this result of it only. ``reason`` is a code such as ``checked``.
    """

    payload_type: ClassVar[str] = "application/vnd.underseal.approval.v1+json"
    max_bytes: ClassVar[int] = 8 << 10

    request_sha256: Sha256
    result_sha256: Sha256
    approver: Name
    decision: Literal["approve", "refuse"]
    reason: Name
    at: Time
    expires_at: Time


class Warrant(Statement):
    """Signed by the client: the authorisation of a search that was released without one.

    ``salt`` is random: the log holds this statement's hash, and references can be guessed.
    """

    payload_type: ClassVar[str] = "application/vnd.underseal.warrant.v1+json"
    max_bytes: ClassVar[int] = 8 << 10

    request_id: Id
    request_sha256: Sha256
    client: Name
    reference: Text
    salt: Id
    at: Time
