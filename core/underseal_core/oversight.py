"""What auditors sign about a policy: nobody alone puts one in force."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from underseal_core.statements import Sha256, Statement, Text

Serial = Annotated[int, Field(ge=1, le=2**53 - 1)]
"""Rises with every change of a policy, so that an older one cannot come back."""


class PolicyApproval(Statement):
    """Signed by k members of a key epoch: the policy with this hash holds for their keys."""

    payload_type: ClassVar[str] = "application/vnd.underseal.policy-approval.v1+json"

    policy_sha256: Sha256
    policy_name: Text
    serial: Serial
    key_epoch: Sha256
