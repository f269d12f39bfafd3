"""The same inputs for every system that is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from underseal_client.faces import synthetic_templates

SEED: Final = 20180726
NOISE: Final = 0.05
"""Added to every coordinate of the template that the probe resembles."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Unit vectors: ``templates`` (count, dimension), and a ``probe`` near the first of them."""

    templates: npt.NDArray[np.float64]
    probe: npt.NDArray[np.float64]

    def first(self, count: int) -> Inputs:
        """Return a smaller gallery, of the first templates."""
        return Inputs(self.templates[:count], self.probe)


def inputs(count: int, dimension: int) -> Inputs:
    """Make a gallery of ``count`` random templates and a probe, the same at each call."""
    templates = synthetic_templates(count, dimension, seed=SEED)
    noise = np.random.default_rng(SEED).normal(scale=NOISE, size=dimension)
    probe = templates[0] + noise
    return Inputs(templates, probe / np.linalg.norm(probe))
