"""From opened scores to what leaves: threshold, cut, rounding. Pure.

Scores arrive with the flooding noise in them; everything here is post-processing of noisy values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from underseal_auditor.verify.catalogue import Block
from underseal_core.provenance import Origin
from underseal_core.snapshot import LiveEntry
from underseal_core.statements import Match, MatchedTemplate

Real = npt.NDArray[np.float64]

YES: Final = ""
"""Score text of a match when the policy releases yes or no."""


@dataclass(frozen=True, slots=True, repr=False)
class OpenedBlock:
    """A block's live scores, in the order of ``block.entries``, and which may be released.

    ``live`` is overwritten by :meth:`wipe`.
    """

    block: Block
    live: Real
    compared: npt.NDArray[np.bool_]

    def wipe(self) -> None:
        """Overwrite the scores."""
        self.live.fill(0.0)


@dataclass(frozen=True, slots=True, repr=False)
class Hit:
    """One subject at or above the threshold: its templates that say so, and their noisy score."""

    entries: tuple[LiveEntry, ...]
    score: float

    @property
    def subject_id(self) -> bytes:
        """The subject's id."""
        return self.entries[0].subject_id

    @property
    def name(self) -> bytes:
        """The first template's id, which has nothing to do with the score."""
        return self.entries[0].template_id


def best_first(found: Sequence[Hit], *, strict: bool = False) -> list[Hit]:
    """Return hits in the order of release.

    In strict mode that is the order of the template ids: one by score would say more than yes or
    no.
    """
    return sorted(found, key=lambda hit: (0.0 if strict else -hit.score, hit.name))


def scored_first(found: Sequence[Hit], scored: Sequence[bool]) -> list[tuple[Hit, bool]]:
    """Return hits with whether they show their score; those that do not come last, by template id.

    A rank between two scores would say what the score would have said.
    """
    pairs = list(zip(found, scored, strict=True))
    silent = sorted((hit for hit, show in pairs if not show), key=lambda hit: hit.name)
    return [pair for pair in pairs if pair[1]] + [(hit, False) for hit in silent]


def match_of(hit: Hit, rank: int, decimals: int, templates: tuple[MatchedTemplate, ...]) -> Match:
    """Return the statement's form of a hit; ``decimals`` 0 leaves its score out."""
    return Match(
        subject_id=hit.subject_id.hex(),
        rank=rank,
        score=score_text(hit.score, decimals),
        templates=templates,
    )


def template_of(entry: LiveEntry, label: str, origin: Origin) -> MatchedTemplate:
    """Return the statement's form of a template; ``origin``: who enrolled it, verified before."""
    return MatchedTemplate(
        template_id=entry.template_id.hex(),
        label=label,
        enrolment_sha256=hashlib.sha256(origin.receipt.payload).hexdigest(),
        enroller_key=origin.receipt.signatures[0].public_key.hex(),
    )


def score_text(score: float, decimals: int) -> str:
    """Return a score rounded to the policy's decimals; empty for yes or no.

    Noise may lift a score above 1, which no cosine is: it is cut there.
    """
    if decimals == 0:
        return YES
    return f"{min(1.0, max(-1.0, score)):.{decimals}f}"
