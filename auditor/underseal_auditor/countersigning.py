"""What a guardian checks of a release before it adds its signature."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from underseal_auditor.policy.quotas import Use
from underseal_auditor.policy.rules import CLOCK_SKEW, guardian_part, part_of
from underseal_auditor.store.submission import cost_of
from underseal_core.errors import Damaged, InvalidInput, PermissionRefused
from underseal_core.roster import Roster
from underseal_core.signing import Envelope, signers_of
from underseal_core.statements import Release, utc_moment

if TYPE_CHECKING:
    from underseal_auditor.guardianship import Session, Watch

_log: Final = structlog.get_logger("underseal.guardian")


def parse_release(envelope: Envelope) -> Release:
    """Return the release in an envelope, whoever signed it.

    Raises
    ------
    InvalidInput
        There is none.
    """
    if envelope.payload_type != Release.payload_type:
        raise InvalidInput("not a release")
    try:
        return Release.parse(envelope.payload)
    except Damaged as error:
        raise InvalidInput("not a release") from error


def guardians_release(envelope: Envelope, roster: Roster, key_epoch: str) -> Release:
    """Return the release in an envelope that k members of the roster signed.

    Raises
    ------
    InvalidInput
        There is none.
    PermissionRefused
        Fewer than k members signed it, or it is of another key epoch.
    """
    release = parse_release(envelope)
    signers = signers_of(envelope, roster.members)
    if len(signers) < roster.threshold or release.key_epoch != key_epoch:
        raise PermissionRefused("the release is not signed by enough guardians of these keys")
    return release


def check_release(release: Release, session: Session, watch: Watch, patience: timedelta) -> None:
    """Check that a release is of this opening, and within the terms.

    Parameters
    ----------
    patience
        How long an opening may take.

    Raises
    ------
    PermissionRefused
        It is not.
    """
    request, terms = session.chain.request, session.terms
    stated = (
        release.request_id,
        release.request_sha256,
        release.result_sha256,
        release.policy_sha256,
        release.key_epoch,
        release.client,
        release.purpose,
        release.case_reference,
        release.threshold,
        release.fusion,
        release.approvers,
    )
    own = (
        request.request_id,
        session.chain.request_sha256,
        session.chain.result_sha256,
        session.policy.sha256,
        watch.bundle.epoch,
        request.client,
        request.purpose,
        request.case_reference,
        str(terms.threshold),
        terms.fusion,
        session.approvers,
    )
    weight = release.searches_charged
    largest = terms.max_positives + terms.max_near
    allowed = (
        stated == own
        and _each_subject_once(release)
        and weight in (1, terms.quotas.near_duplicate_weight)
        and len(release.matches) * weight <= release.values_charged
        and len(release.matches) <= terms.top_k
        and release.values_charged <= largest * weight
        and (bool(terms.decimals) or not any(match.score for match in release.matches))
    )
    released = utc_moment(release.released_at)
    allowed &= release.warrant_deadline == terms.warrant_deadline(released)
    allowed &= abs(released - watch.clock()) <= CLOCK_SKEW + patience
    allowed &= _within_budget(release, session, watch, largest)
    if not allowed or not _within_quotas(release, session, watch):
        _log.warning("release not countersigned", request=request.request_id)
        raise PermissionRefused("this guardian does not countersign the release")


def _each_subject_once(release: Release) -> bool:
    """Tell whether a value stands for one subject; by the maximum, for one template of it."""
    subjects = {match.subject_id for match in release.matches}
    names = [one.template_id for match in release.matches for one in match.templates]
    once = len(subjects) == len(release.matches) and len(set(names)) == len(names)
    return once and (release.fusion == "mean" or len(names) == len(release.matches))


def _within_budget(release: Release, session: Session, watch: Watch, advance: int) -> bool:
    """Tell whether this guardian's part of the budget covers it; ``advance`` is charged already."""
    before = watch.ledger.epoch_total(release.key_epoch) - advance
    budget = part_of(session.policy.document.release.budget, guardian_part(watch.bundle))
    return before + release.values_charged <= budget


def _within_quotas(release: Release, session: Session, watch: Watch) -> bool:
    """Tell whether what this guardian countersigned about each subject stays within the quotas."""
    gallery = session.chain.request.gallery
    added = cost_of(release, gallery).uses
    before = watch.tallies.uses(release.key_epoch, gallery, added)
    quotas = session.terms.quotas
    return all(before.get(s, Use()).plus(use).within(quotas) for s, use in added.items())
