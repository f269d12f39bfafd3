"""Templates of people who do not exist, for demonstrations and benchmarks.

They are distributed uniformly on the unit sphere. Templates of real faces are not: they crowd
into parts of it, so their impostor scores spread wider than the ``1/sqrt(d)`` seen here. Timings
and arithmetic errors carry over; error rates do not.
"""

from __future__ import annotations

import secrets

import numpy as np
import numpy.typing as npt

from underseal_core.errors import InvalidInput


def synthetic_templates(
    count: int, dimension: int, *, seed: int | None = None
) -> npt.NDArray[np.float64]:
    """Return random unit vectors, (count, dimension) float64.

    A vector of independent normal variates has a uniformly distributed direction (Muller 1959).
    The generator is no cryptographic one: these vectors are public filler, never keys or noise.

    Parameters
    ----------
    seed
        Makes the vectors repeatable; None takes a seed from the operating system.

    Raises
    ------
    InvalidInput
        A negative count or a dimension below 2.
    """
    if count < 0 or dimension < 2:
        raise InvalidInput("count must be 0 or more and dimension at least 2")
    generator = np.random.default_rng(secrets.randbits(128) if seed is None else seed)
    vectors = generator.standard_normal((count, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
