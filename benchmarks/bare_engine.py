"""The engine alone on blocks like a server's: what a search takes with no service around it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from underseal_core.gallery.unit import usable_slots
from underseal_core.ring import kernel
from underseal_core.scheme.evaluation import Evaluator, tiles_shape

if TYPE_CHECKING:
    from underseal_core.bundle import PublicBundle
    from underseal_core.scheme.ciphertext import Ciphertext


class BareEngine:
    """Blocks of random residues: arithmetic takes as long on them as on encryptions.

    Parameters
    ----------
    bundle
        Its keys, profile and dimension.
    row
        The probe.
    templates
        As many blocks as these take when they are enrolled in bulk.
    threads
        Of the server.
    """

    def __init__(self, bundle: PublicBundle, row: Ciphertext, templates: int, threads: int) -> None:
        profile, dimension = bundle.profile, bundle.dimension
        self._evaluator = Evaluator(profile, dimension, bundle.keys, threads)
        self._row = row
        count = -(-templates // usable_slots(profile.degree, dimension))
        self._blocks = list(kernel.aligned((count, *tiles_shape(profile, dimension))))
        below, rng = min(profile.data_primes), np.random.default_rng(0)
        for block in self._blocks:
            block[...] = rng.integers(0, below, block.shape, dtype=np.uint32)

    def close(self) -> None:
        """End its threads."""
        self._evaluator.close()

    def run(self) -> tuple[float, float]:
        """Expand a probe, compute its norm, score every block.

        Returns
        -------
        Milliseconds that passed, and those of processors, of all threads together.
        """
        begun, spent = time.perf_counter(), time.process_time()
        probe = self._evaluator.prepare(self._row).probe
        self._evaluator.score_many([probe], self._blocks)
        return 1000 * (time.perf_counter() - begun), 1000 * (time.process_time() - spent)
