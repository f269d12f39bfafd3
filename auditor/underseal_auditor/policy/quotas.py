"""What may still be said about a subject of a gallery, in a key epoch, over all clients. Pure.

A released match counts as one hit, and with its score as one score as well; for a near duplicate of
an earlier probe of the client both count ``near_duplicate_weight`` times. When the scores of a
subject are used up, its matches are released without one. When its hits are used up the request is
refused, in the words of every other refusal after opening: to leave the match out would tell an
honest client something untrue, and to say why would be one more hit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from underseal_auditor.policy.sections import QuotaSection


@dataclass(frozen=True, slots=True)
class Use:
    """Scores and hits of one subject."""

    scores: int = 0
    hits: int = 0

    def plus(self, other: Use) -> Use:
        """Return the sum."""
        return Use(self.scores + other.scores, self.hits + other.hits)

    def within(self, quotas: QuotaSection) -> bool:
        """Tell whether it keeps to the quotas."""
        few_scores = self.scores <= quotas.scores_per_subject
        return few_scores and self.hits <= quotas.hits_per_subject


@dataclass(frozen=True, slots=True)
class Allotment:
    """Which matches may show their score, and what that uses; None: the hits are used up."""

    scored: tuple[bool, ...]
    uses: Mapping[bytes, Use]


def allot(
    subjects: Sequence[bytes],
    before: Mapping[bytes, Use],
    quotas: QuotaSection,
    *,
    weight: int,
    numeric: bool,
) -> Allotment | None:
    """Decide what the matches of one answer may show.

    Parameters
    ----------
    subjects
        Of the matches, best first; 16 bytes each.
    before
        What was said about them so far; a missing one is nothing.
    weight
        How often everything counts.
    numeric
        Whether the policy releases scores at all.
    """
    scored, added = [], dict[bytes, Use]()
    for subject in subjects:
        so_far = before.get(subject, Use()).plus(added.get(subject, Use()))
        if so_far.hits + weight > quotas.hits_per_subject:
            return None
        with_score = numeric and so_far.scores + weight <= quotas.scores_per_subject
        scored.append(with_score)
        use = Use(weight if with_score else 0, weight)
        added[subject] = added.get(subject, Use()).plus(use)
    return Allotment(tuple(scored), added)


def used(matches: Sequence[tuple[bytes, bool]], weight: int) -> dict[bytes, Use]:
    """Return what matches use: pairs of subject id and whether the score is shown."""
    total = dict[bytes, Use]()
    for subject, with_score in matches:
        use = Use(weight if with_score else 0, weight)
        total[subject] = total.get(subject, Use()).plus(use)
    return total
