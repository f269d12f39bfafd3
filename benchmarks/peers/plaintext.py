"""No encryption at all: what a matrix product takes, and the answers for all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from benchmarks.peers.system import CLEAR, About, Sizes

if TYPE_CHECKING:
    from benchmarks.inputs import Inputs

Single = npt.NDArray[np.float32]


class Plaintext:
    """numpy, single precision."""

    about: ClassVar = About(
        name="plaintext numpy",
        package="numpy",
        probe=CLEAR,
        gallery=CLEAR,
        enrolment="none",
        opens="whoever has the machine",
        open_to="the operator and every thief see all templates, probes and scores",
        tolerance=1e-5,
        threaded=True,
        most=1 << 20,
        together=1,
        runs=20,
    )

    def __init__(self, given: Inputs) -> None:
        self._templates = given.templates.astype(np.float32)
        self._probe = given.probe.astype(np.float32)

    def query(self) -> Single:
        """Return the probe."""
        return self._probe

    def prepare(self, query: Single, threads: int) -> Single:
        """Set the number of threads."""
        threadpool_limits(threads)
        return query

    def compare(self, prepared: Single, threads: int) -> Single:
        """Multiply."""
        scores: Single = self._templates @ prepared
        return scores

    def open(self, answer: Single) -> npt.NDArray[np.float64]:
        """Return the scores."""
        return answer.astype(np.float64)

    def sizes(self) -> Sizes:
        """Return four bytes for every coordinate."""
        return Sizes(self._templates.nbytes / len(self._templates), self._probe.nbytes, 0)
