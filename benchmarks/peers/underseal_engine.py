"""Underseal's engine, as servers and guardians run it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from benchmarks.accuracy import BOUND, opened
from benchmarks.engine import Gallery, key_bytes
from benchmarks.peers.system import ENCRYPTED, About, Sizes
from underseal_auditor.keys.ceremony import run_sole
from underseal_core.scheme.ciphertext import Kind, wire_size
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.profiles import PROFILES
from underseal_core.signing import Identity

if TYPE_CHECKING:
    from benchmarks.inputs import Inputs


def _about(profile: str) -> About:
    return About(
        name=f"Underseal {profile}",
        package="underseal",
        probe=ENCRYPTED,
        gallery=ENCRYPTED,
        enrolment="public",
        opens="k of n auditors together",
        open_to="k auditors who conspire",
        tolerance=BOUND[profile],
        threaded=True,
        most=1 << 20,
        together=PROFILES[profile].degree,
        runs=7,
    )


class _Underseal:
    about: ClassVar[About]
    profile: ClassVar[str]

    def __init__(self, given: Inputs) -> None:
        profile, dimension = PROFILES[self.profile], len(given.probe)
        self._ceremony = run_sole(profile, dimension, Identity.generate())
        self._given = given
        self._gallery = Gallery(self._ceremony, given)
        self._evaluator = cache(
            lambda threads: Evaluator(profile, dimension, self._ceremony.bundle.keys, threads)
        )
        self._gallery.fill(self._evaluator(1))

    def query(self) -> Any:
        """Encrypt the probe."""
        return self._gallery.encryptor.encrypt_probe(self._given.probe)

    def prepare(self, query: Any, threads: int) -> Any:
        """Expand the probe, and make the ciphertext of its norm."""
        return self._evaluator(threads).prepare(query).probe

    def compare(self, prepared: Any, threads: int) -> Any:
        """Score every block."""
        return self._evaluator(threads).score_many([prepared], self._gallery.blocks)[0]

    def open(self, answer: Any) -> npt.NDArray[np.float64]:
        """Open every block; without the noise that auditors add, to see the engine's own error."""
        scores = [opened(result, self._ceremony.share.secret) for result in answer]
        return np.concatenate(scores)[: len(self._given.templates)]

    def sizes(self) -> Sizes:
        """Return the size of a slot in memory, of a probe on the wire, of the evaluation keys."""
        keys = key_bytes(self._ceremony.bundle.keys)
        profile = PROFILES[self.profile]
        slots = len(self._gallery.blocks) * profile.degree
        return Sizes(self._gallery.size / slots, wire_size(profile, Kind.PROBE_ROW), keys)


class Guarded(_Underseal):
    """The default."""

    profile = "guarded"
    about = _about("guarded")


class Compact(_Underseal):
    """Half as large."""

    profile = "compact"
    about = _about("compact")


class Swift(_Underseal):
    """Small rings."""

    profile = "swift"
    about = _about("swift")
