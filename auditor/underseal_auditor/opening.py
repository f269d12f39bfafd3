"""Open a submission and judge what comes out, before any of it leaves.

Everything opened carries the flooding noise already. The scores live in arrays that are
overwritten before this module returns; what is left are the hits and a count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from underseal_auditor.guardian import Opening
from underseal_auditor.policy.rules import Terms
from underseal_auditor.release import Hit, OpenedBlock, Real, hits
from underseal_auditor.verify.catalogue import View
from underseal_auditor.verify.chain import Sealed
from underseal_auditor.verify.numbers import (
    Bounds,
    charged,
    check_norm,
    check_projection,
    check_scores,
)
from underseal_auditor.verify.sketch import Sketcher
from underseal_core.statements import Targets

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
    compared: int
    sketch: bytes = b""


def judge(
    opening: Opening,
    sealed: Sealed,
    view: View,
    targets: Targets,
    terms: Terms,
    sketcher: Sketcher,
) -> Verdict:
    """Open the checks, then the scores, and apply the terms.

    Parameters
    ----------
    sealed
        Its results are exactly the blocks that ``view`` expects for ``targets``.
    """
    rule = _check_probe(opening, sealed, terms)
    if rule:
        return Verdict(rule, (), REFUSAL_CHARGE, 0)
    opened = _open_results(opening, sealed, view, targets, terms)
    live = np.concatenate([one.live for one in opened]) if opened else np.empty(0)
    mask = np.concatenate([one.compared for one in opened]) if opened else np.empty(0, np.bool_)
    compared = live[mask]
    ids = [entry.template_id for one in opened for entry in one.block.entries]
    try:
        sketch = sketcher.sketch(ids, live)
        return replace(_apply(opened, live, compared, terms), sketch=sketch)
    finally:
        for array in (live, compared):
            array.fill(0.0)
        for one in opened:
            one.wipe()


def _check_probe(opening: Opening, sealed: Sealed, terms: Terms) -> str:
    norm = opening.open(sealed.norm, terms.noise_std)
    projection = opening.open(sealed.projection, terms.noise_std)
    rule = check_norm(norm) or check_projection(projection) or ""
    norm.fill(0.0)
    projection.fill(0.0)
    return rule


def _open_results(
    opening: Opening, sealed: Sealed, view: View, targets: Targets, terms: Terms
) -> list[OpenedBlock]:
    opened = []
    for number, ciphertext in sealed.results.items():
        block = view.blocks[number]
        coefficients = opening.open(ciphertext, terms.noise_std)
        live: Real = coefficients[block.slots]  # a copy: dead and empty slots go no further
        coefficients.fill(0.0)
        opened.append(OpenedBlock(block, live, block.compared(targets)))
    return opened


def _apply(opened: list[OpenedBlock], live: Real, compared: Real, terms: Terms) -> Verdict:
    bounds = Bounds(
        threshold=float(terms.threshold),
        band=terms.band,
        max_positives=terms.max_positives,
        max_near=terms.max_near,
        max_spread=terms.max_spread,
    )
    rule = check_scores(live, compared, bounds)
    if rule:
        return Verdict(rule, (), REFUSAL_CHARGE, compared.size)
    charge = charged(compared, bounds.threshold, bounds.band)
    return Verdict("", tuple(hits(opened, terms)), charge, compared.size)
