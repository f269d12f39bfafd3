"""What a release will say of the hits: whom it names, in which order, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from underseal_auditor.mirror import Mirror
from underseal_auditor.opening import Verdict
from underseal_auditor.policy.rules import Terms
from underseal_auditor.release import Hit, match_of
from underseal_auditor.verify.chain import Chain
from underseal_core.errors import Damaged
from underseal_core.labels import OpeningKey, label_context, open_label
from underseal_core.log_entries import Intent
from underseal_core.provenance import Origin
from underseal_core.statements import Match, Release, utc_text

_log: Final = structlog.get_logger("underseal.registrar")

UNREADABLE: Final = ""
"""Label of a match whose sealed label does not open: the match itself is real."""


@dataclass(frozen=True, slots=True)
class Price:
    """What an answer costs.

    ``charge``: values made visible, near duplicates weighed; ``weight``: searches that this
    counts as; ``epoch_total`` includes the charge.
    """

    charge: int
    weight: int
    epoch_total: int


@dataclass(frozen=True, slots=True)
class Drafter:
    """Drafts releases from the catalogue and its labels."""

    mirror: Mirror
    label_key: OpeningKey

    def matches(
        self, chain: Chain, shown: list[tuple[Hit, bool]], terms: Terms
    ) -> tuple[tuple[Match, ...], tuple[Origin, ...]]:
        """Return the matches, labels opened, and who enrolled each."""
        server, gallery = chain.result.server, chain.request.gallery
        origins = tuple(
            self.mirror.origin(server, gallery, hit.entry.template_id) for hit, _ in shown
        )
        matches = tuple(
            match_of(hit, rank, self._label(chain, hit), terms.decimals if show else 0, origin)
            for rank, ((hit, show), origin) in enumerate(zip(shown, origins, strict=True), start=1)
        )
        return matches, origins

    def _label(self, chain: Chain, hit: Hit) -> str:
        gallery, template_id = chain.request.gallery, hit.entry.template_id
        sealed = self.mirror.sealed_label(chain.result.server, gallery, template_id)
        try:
            label = open_label(self.label_key, sealed, label_context(gallery, template_id))
            return label.decode()
        except (Damaged, UnicodeDecodeError):
            _log.warning("a sealed label does not open", template=template_id.hex())
            return UNREADABLE


def statement(
    chain: Chain,
    terms: Terms,
    verdict: Verdict,
    matches: tuple[Match, ...],
    intent: Intent,
    price: Price,
    now: datetime,
) -> Release:
    """Return the release of what was announced with ``intent``."""
    request = chain.request
    return Release(
        request_id=request.request_id,
        request_sha256=chain.request_sha256,
        result_sha256=chain.result_sha256,
        policy_sha256=intent.policy_sha256,
        key_epoch=intent.key_epoch,
        client=request.client,
        purpose=request.purpose,
        case_reference=request.case_reference,
        matches=matches,
        compared=verdict.compared,
        threshold=str(terms.threshold),
        noise_std=f"{terms.noise_std:.3g}",
        approvers=intent.approvers,
        warrant_deadline=terms.warrant_deadline(now),
        values_charged=price.charge,
        searches_charged=price.weight,
        epoch_total=price.epoch_total,
        released_at=utc_text(now),
    )
