"""What is answered once, and what an answer costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from underseal_auditor.policy.quotas import Use, used
from underseal_core.statements import Release


@dataclass(frozen=True, slots=True)
class Submission:
    """What is answered once: client, request id, and the hex hashes of both statements."""

    client: str
    request_id: str
    request_sha256: str
    result_sha256: str
    key_epoch: str
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """``charge``: values made visible; ``weight``: what it counts as among a client's searches.

    ``uses``: what a release says about subjects of ``gallery``. ``warrant_deadline``: of a
    provisional release, else empty.
    """

    charge: int
    weight: int = 1
    gallery: str = ""
    uses: Mapping[bytes, Use] = field(default_factory=dict)
    warrant_deadline: str = ""


def cost_of(release: Release, gallery: str) -> Cost:
    """Return what a release costs, as it states itself."""
    shown = [(bytes.fromhex(m.subject_id), bool(m.score)) for m in release.matches]
    weight = release.searches_charged
    uses = used(shown, weight)
    return Cost(release.values_charged, weight, gallery, uses, release.warrant_deadline)
