"""What a release will say of the hits: whom it names, in which order, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from underseal_auditor.mirror import Mirror
from underseal_auditor.opening import Verdict
from underseal_auditor.policy.rules import Terms
from underseal_auditor.release import Hit, match_of, template_of
from underseal_auditor.verify.chain import Chain
from underseal_core.errors import Damaged
from underseal_core.labels import OpeningKey, label_context, open_label
from underseal_core.log_entries import Intent
from underseal_core.provenance import Origin
from underseal_core.snapshot import LiveEntry
from underseal_core.statements import Match, Release, utc_text

_log: Final = structlog.get_logger("underseal.registrar")

MAX_TEMPLATES: Final = 400
"""Templates that a release names: with the longest labels and receipts it still fits a message."""

UNREADABLE: Final = ""
"""Label of a template whose sealed label does not open: the match itself is real."""


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
        """Return the matches, labels opened, and who enrolled each template, in their order."""
        server, gallery = chain.result.server, chain.request.gallery
        matches, origins = [], list[Origin]()
        for rank, (hit, show) in enumerate(shown, start=1):
            room = MAX_TEMPLATES - len(origins)
            if not room:
                break
            named = []
            for entry in hit.entries[:room]:
                origins.append(self.mirror.origin(server, gallery, entry.template_id))
                named.append(template_of(entry, self._label(chain, entry), origins[-1]))
            matches.append(match_of(hit, rank, terms.decimals if show else 0, tuple(named)))
        return tuple(matches), tuple(origins)

    def _label(self, chain: Chain, entry: LiveEntry) -> str:
        gallery, template_id = chain.request.gallery, entry.template_id
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
        fusion=terms.fusion,
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
