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

from underseal_auditor.policy.rules import Terms
from underseal_auditor.verify.catalogue import Block
from underseal_core.provenance import Origin
from underseal_core.snapshot import LiveEntry
from underseal_core.statements import Match

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
    """One template at or above the threshold, with its noisy score."""

    entry: LiveEntry
    score: float


def hits(opened: Sequence[OpenedBlock], terms: Terms) -> list[Hit]:
    """Return what the request may learn, best first, cut to ``terms.top_k``.

    In strict mode the order is that of the template ids: an order by score would say more than
    yes or no.
    """
    threshold = float(terms.threshold)
    found = [
        Hit(one.block.entries[i], float(one.live[i]))
        for one in opened
        for i in np.flatnonzero(one.compared & (one.live >= threshold))
    ]
    if terms.strict:
        found.sort(key=lambda hit: hit.entry.template_id)
    else:
        found.sort(key=lambda hit: (-hit.score, hit.entry.template_id))
    return found[: terms.top_k]


def scored_first(found: Sequence[Hit], scored: Sequence[bool]) -> list[tuple[Hit, bool]]:
    """Return hits with whether they show their score; those that do not come last, by template id.

    A rank between two scores would say what the score would have said.
    """
    pairs = list(zip(found, scored, strict=True))
    silent = sorted((hit for hit, show in pairs if not show), key=lambda h: h.entry.template_id)
    return [pair for pair in pairs if pair[1]] + [(hit, False) for hit in silent]


def match_of(hit: Hit, rank: int, label: str, decimals: int, origin: Origin) -> Match:
    """Return the statement's form of a hit; ``decimals`` 0 leaves its score out.

    ``origin``: who enrolled it, verified before.
    """
    return Match(
        template_id=hit.entry.template_id.hex(),
        subject_id=hit.entry.subject_id.hex(),
        rank=rank,
        score=score_text(hit.score, decimals),
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
