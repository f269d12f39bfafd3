"""Open a submission and judge what comes out, before any of it leaves.

Everything opened carries the flooding noise already. The scores live in arrays that are
overwritten before this module returns; what is left are the hits and a count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import hypot

import numpy as np

from underseal_auditor.fusion import Values, fuse
from underseal_auditor.guardian import Opening
from underseal_auditor.policy.budget import SCORE_DEVIATION
from underseal_auditor.policy.check_budget import CHECK_NOISE
from underseal_auditor.policy.rules import Terms
from underseal_auditor.release import Hit, OpenedBlock, Real
from underseal_auditor.verify.catalogue import View
from underseal_auditor.verify.chain import Sealed
from underseal_auditor.verify.numbers import (
    Bounds,
    charged,
    check_canaries,
    check_norm,
    check_scores,
)
from underseal_auditor.verify.sketch import Sketcher
from underseal_core.gallery.unit import usable_slots
from underseal_core.scheme.profiles import padded_dimension
from underseal_core.statements import SearchRequest

REFUSAL_CHARGE = 1
"""A refusal is one bit about what was opened."""


@dataclass(frozen=True, slots=True, repr=False)
class Verdict:
    """What opening came to.

    ``rule``: the broken rule, empty if none. ``hits`` are empty when one is broken.
    ``charge``: values made visible. ``compared``: templates that the request asked about.
    ``sketch`` of all opened scores, see :mod:`underseal_auditor.verify.sketch`.
    """

    rule: str
    hits: tuple[Hit, ...]
    charge: int
    compared: int = 0
    sketch: bytes = b""


def judge(
    opening: Opening,
    sealed: Sealed,
    view: View,
    request: SearchRequest,
    terms: Terms,
    sketcher: Sketcher,
) -> Verdict:
    """Open the norm, then the scores, and apply the terms.

    Parameters
    ----------
    sealed
        Its results are exactly the blocks that ``view`` expects for the request's targets.
    """
    rule = _check_probe(opening, sealed)
    if rule:
        return Verdict(rule, (), REFUSAL_CHARGE)
    opened, canaries = _open_results(opening, sealed, view, request, terms)
    live = np.concatenate([one.live for one in opened]) if opened else np.empty(0)
    values = fuse(opened, terms)
    ids = [entry.template_id for one in opened for entry in one.block.entries]
    try:
        sketch = sketcher.sketch(ids, live)
        compared = sum(int(one.compared.sum()) for one in opened)
        return replace(_apply(values, live, terms, canaries), compared=compared, sketch=sketch)
    finally:
        live.fill(0.0)
        values.wipe()
        for one in opened:
            one.wipe()


def _check_probe(opening: Opening, sealed: Sealed) -> str:
    norm = opening.open(sealed.norm, CHECK_NOISE)
    rule = check_norm(float(norm[0])) or ""
    norm.fill(0.0)
    return rule


def _open_results(
    opening: Opening, sealed: Sealed, view: View, request: SearchRequest, terms: Terms
) -> tuple[list[OpenedBlock], str]:
    """Open every block; the second is the rule that its empty slots break, if any."""
    opened, rule = [], ""
    profile = sealed.norm.profile
    usable = usable_slots(profile.degree, padded_dimension(request.pin.model_dimension))
    deviation = hypot(terms.noise_std, SCORE_DEVIATION[profile.name])
    for number, ciphertext in sealed.results.items():
        block = view.blocks[number]
        coefficients = opening.open(ciphertext, terms.noise_std)
        rule = rule or check_canaries(coefficients[usable:], deviation) or ""
        live: Real = coefficients[block.slots]  # a copy: dead and empty slots go no further
        coefficients.fill(0.0)
        opened.append(OpenedBlock(block, live, block.compared(request)))
    return opened, rule


def _apply(values: Values, live: Real, terms: Terms, canaries: str) -> Verdict:
    bounds = Bounds(
        threshold=float(terms.threshold),
        band=terms.band,
        max_positives=terms.max_positives,
        max_near=terms.max_near,
        max_spread=terms.max_spread,
    )
    rule = check_scores(live, values.scores, bounds) or canaries
    if rule:
        return Verdict(rule, (), REFUSAL_CHARGE)
    charge = charged(values.scores, bounds.threshold, bounds.band)
    return Verdict("", tuple(values.hits(terms)), charge)
