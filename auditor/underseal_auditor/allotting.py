"""What an answer counts as, and which of its hits may show their score, by what was said before."""

from __future__ import annotations

from underseal_auditor.opening import Verdict
from underseal_auditor.policy.quotas import allot
from underseal_auditor.policy.rules import Terms
from underseal_auditor.release import Hit, scored_first
from underseal_auditor.store.quotas import Tallies
from underseal_auditor.store.submission import Submission
from underseal_auditor.verify.sketch import is_near


def weight_of(
    tallies: Tallies, submission: Submission, gallery: str, verdict: Verdict, terms: Terms
) -> int:
    """Return how often an opened search counts, and remember its sketch.

    More than once if the client asked nearly the same before.
    """
    earlier = tallies.compare(submission, gallery, verdict.sketch)
    return terms.quotas.near_duplicate_weight if is_near(verdict.sketch, earlier) else 1


def shown_hits(
    tallies: Tallies,
    submission: Submission,
    gallery: str,
    verdict: Verdict,
    terms: Terms,
    weight: int,
) -> list[tuple[Hit, bool]] | None:
    """Return the hits in the order of release with whether they show their score.

    None when the quota of a subject forbids the answer.
    """
    subjects = [hit.subject_id for hit in verdict.hits]
    before = tallies.uses(submission.key_epoch, gallery, subjects)
    numeric = bool(terms.decimals)
    allotted = allot(subjects, before, terms.quotas, weight=weight, numeric=numeric)
    if allotted is None:
        return None
    if not numeric:
        return [(hit, False) for hit in verdict.hits]
    return scored_first(verdict.hits, allotted.scored)
