"""A request as an approver sees it, and the statement that decides it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from underseal_core.oversight import Approval
from underseal_core.statements import SearchRequest, Targets, utc_text


def compared_with(targets: Targets) -> str:
    """Return whom a request asks about, as people say it."""
    for what, names in (("template", targets.template_ids), ("subject", targets.subject_ids)):
        if names:
            return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"
    return "everybody in the gallery"


VALIDITY: Final = timedelta(hours=24)
"""Of an approval, unless the approver says otherwise."""


@dataclass(frozen=True, slots=True)
class Petition:
    """A request that waits: read from what the client signed, so its hash is that of what is shown.

    Times are UTC, as in statements.
    """

    request: SearchRequest
    result_sha256: str
    submitted_at: str
    expires_at: str
    needed: int
    approving: tuple[str, ...]
    refusing: tuple[str, ...]

    def facts(self) -> dict[str, object]:
        """Return what there is to judge by."""
        request = self.request
        return {
            "request_id": request.request_id,
            "client": request.client,
            "purpose": request.purpose,
            "case_reference": request.case_reference,
            "gallery": request.gallery,
            "compared_with": compared_with(request.targets),
            "submitted_at": self.submitted_at,
            "expires_at": self.expires_at,
            "needed": self.needed,
            "approving": list(self.approving),
            "refusing": list(self.refusing),
        }

    def decision(
        self,
        approver: str,
        decision: Literal["approve", "refuse"],
        reason: str,
        now: datetime,
        validity: timedelta = VALIDITY,
    ) -> Approval:
        """Return the statement that an approver signs."""
        return Approval(
            request_sha256=self.request.sha256(),
            result_sha256=self.result_sha256,
            approver=approver,
            decision=decision,
            reason=reason,
            at=utc_text(now),
            expires_at=utc_text(now + validity),
        )
