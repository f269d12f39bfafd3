"""Several templates of one subject: what an answer may show of their scores.

    max    each template's score is a value; a subject has that of its best template
    mean   a subject's value is the mean over its templates that were compared

A *value* is what a release may show, what is charged and what the limits count. The noise of a mean
of ``n`` scores has the variance ``sigma^2 / n``: shown as it is, it would say as much about the
error as ``n`` scores do. So it gets fresh noise of variance ``sigma^2 (1 - 1/n)`` and then says no
more than one score: an error of at most ``t`` (the mean of such errors) under noise of ``sigma``
(docs/explanation/release.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from underseal_auditor.keys.sampling import SecretStream, gaussian
from underseal_auditor.policy.rules import Terms
from underseal_auditor.release import Hit, OpenedBlock, Real, best_first
from underseal_core.snapshot import LiveEntry

_FINE: Final = 2.0**50
"""Steps of the noise of a mean, in units of the score."""


@dataclass(frozen=True, slots=True, repr=False)
class Values:
    """What may be shown: ``scores[i]`` of the templates ``entries[i]``, which are of one subject.

    ``scores`` is overwritten by :meth:`wipe`.
    """

    scores: Real
    entries: Sequence[tuple[LiveEntry, ...]]

    def hits(self, terms: Terms) -> list[Hit]:
        """Return what the request may learn, best first, each subject once; cut to the terms."""
        best = dict[bytes, Hit]()
        for place in np.flatnonzero(self.scores >= float(terms.threshold)).tolist():
            hit = Hit(self.entries[place], float(self.scores[place]))
            known = best.get(hit.subject_id)
            best[hit.subject_id] = hit if known is None else best_first([known, hit])[0]
        return best_first(list(best.values()), strict=terms.strict)[: terms.top_k]

    def wipe(self) -> None:
        """Overwrite the scores."""
        self.scores.fill(0.0)


def fuse(opened: Sequence[OpenedBlock], terms: Terms) -> Values:
    """Return the values of opened blocks; of templates that the request asks about only."""
    parts = [one.live[one.compared] for one in opened]
    scores: Real = np.concatenate(parts) if parts else np.empty(0)
    entries = [one.block.entries[place] for one in opened for place in np.flatnonzero(one.compared)]
    for part in parts:
        part.fill(0.0)
    if terms.fusion == "max":
        return Values(scores, [(entry,) for entry in entries])
    try:
        return _means(scores, entries, terms.noise_std)
    finally:
        scores.fill(0.0)


def _means(scores: Real, entries: Sequence[LiveEntry], noise_std: float) -> Values:
    subjects = dict[bytes, int]()
    places = [subjects.setdefault(entry.subject_id, len(subjects)) for entry in entries]
    members: list[list[LiveEntry]] = [[] for _ in subjects]
    for place, entry in zip(places, entries, strict=True):
        members[place].append(entry)
    counts = np.array([len(some) for some in members], np.int64)
    means: Real = np.zeros(len(members))
    np.add.at(means, places, scores)
    means /= counts
    means += _missing_noise(counts, noise_std)
    return Values(means, [tuple(some) for some in members])


def _missing_noise(counts: npt.NDArray[np.int64], noise_std: float) -> Real:
    """Return what the noise of means of ``counts`` scores lacks to that of one score."""
    unit = gaussian(SecretStream(), noise_std * _FINE, len(counts)) / _FINE
    return unit * np.sqrt(1.0 - 1.0 / counts)
