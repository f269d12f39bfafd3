"""What a projection costs: scores of pairs before and after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from underseal_client.faces.projection import Projection, Vectors

    Numbers = npt.NDArray[np.intp]
    Flags = npt.NDArray[np.bool_]

FALSE_MATCH_RATES: Final = (1e-2, 1e-3, 1e-4)
_ROWS: Final = 512


@dataclass(frozen=True, slots=True)
class Rate:
    """Of a dimension: share of same-person pairs above the threshold of a false-match rate."""

    dimension: int
    false_match_rate: float
    threshold: float
    true_match_rate: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What was measured.

    ``same`` and ``different``: numbers of pairs. ``score_error``: root mean square of the change
    of a score, over pairs of different people, and ``same_error`` of one person. Rates that fewer
    than ten pairs of different people decide are left out.
    """

    same: int
    different: int
    score_error: float
    same_error: float
    kept: float
    rates: tuple[Rate, ...]


def measure(embeddings: Vectors, subjects: Sequence[str], projection: Projection) -> Cost:
    """Compare scores of all pairs in both dimensions.

    Parameters
    ----------
    embeddings
        ``(count, d)`` unit vectors that the projection was not fitted on.
    subjects
        Whose each is.

    Raises
    ------
    InvalidInput
        As many names as embeddings are needed, and pairs of both kinds.
    """
    if len(subjects) != len(embeddings):
        raise InvalidInput("there are not as many names as embeddings")
    projected = projection.apply(embeddings)
    names = np.unique(np.array(subjects), return_inverse=True)[1]
    before, after, same = _pairs(embeddings, projected, names)
    if not same.any() or same.all():
        raise InvalidInput("pairs of one person and of different people are needed")
    change = after - before
    rates = [
        rate
        for dimension, scores in (
            (projection.model_dimension, before),
            (projection.dimension, after),
        )
        for rate in _rates(dimension, scores[same], scores[~same])
    ]
    return Cost(
        int(same.sum()),
        int((~same).sum()),
        float(np.sqrt(np.mean(np.square(change[~same])))),
        float(np.sqrt(np.mean(np.square(change[same])))),
        projection.kept(embeddings),
        tuple(rates),
    )


def _pairs(left: Vectors, right: Vectors, names: Numbers) -> tuple[Vectors, Vectors, Flags]:
    """Return both scores of every pair, and whether it is of one person."""
    parts: list[tuple[Vectors, Vectors, Flags]] = []
    for start in range(0, len(left), _ROWS):
        stop = min(start + _ROWS, len(left))
        later = np.arange(len(left))[None, :] > np.arange(start, stop)[:, None]
        scores = (left[start:stop] @ left.T)[later], (right[start:stop] @ right.T)[later]
        parts.append((*scores, (names[start:stop, None] == names[None, :])[later]))
    before, after, same = zip(*parts, strict=True)
    return np.concatenate(before), np.concatenate(after), np.concatenate(same)


def _rates(dimension: int, same: Vectors, different: Vectors) -> list[Rate]:
    found = []
    for wanted in FALSE_MATCH_RATES:
        if wanted * len(different) < 10.0:
            continue
        threshold = float(np.quantile(different, 1.0 - wanted))
        found.append(Rate(dimension, wanted, threshold, float(np.mean(same > threshold))))
    return found
