"""People who do not exist, and their other photos."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from underseal_client import TemplateRecord
from underseal_client.faces import synthetic_templates

ZOO = "zoo-sface"
MODEL = "test-model"
"""A model that exists in pins only: templates of it are made by the tests."""
DIMENSION = 128


def people(count: int, *, seed: int) -> list[TemplateRecord]:
    """Templates of ``count`` people who do not exist."""
    vectors = synthetic_templates(count, DIMENSION, seed=seed)
    return [TemplateRecord(f"person {i}", v, photo=f"{i}.jpg") for i, v in enumerate(vectors)]


def resembling(
    vector: npt.NDArray[np.float64], cosine: float, *, seed: int
) -> npt.NDArray[np.float64]:
    """A unit vector with this cosine to ``vector``: another photo of the same person."""
    other = synthetic_templates(1, len(vector), seed=seed)[0]
    across = other - (other @ vector) * vector
    across /= np.linalg.norm(across)
    mixed: npt.NDArray[np.float64] = cosine * vector + np.sqrt(1 - cosine**2) * across
    return mixed
