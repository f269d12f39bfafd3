"""Who does the arithmetic of a search: threads of this process, or machines (later)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from underseal_core.scheme.ciphertext import Ciphertext, Residues
from underseal_core.scheme.evaluation import Evaluator, Probe
from underseal_server.engine.threads import Threads, finish


@dataclass(frozen=True, slots=True)
class Sealed:
    """A ciphertext as it will be sent, and its SHA-256 in hex."""

    data: bytes
    sha256: str

    @classmethod
    def of(cls, ciphertext: Ciphertext) -> Sealed:
        """Serialise."""
        data = ciphertext.to_bytes()
        return cls(data, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class ReadyProbe:
    """An expanded probe with the ciphertexts that show it to be one unit vector."""

    probe: Probe
    norm: Sealed
    projection: Sealed


class Executor(Protocol):
    """Computes on ciphertexts; neither blocks the event loop nor ends before its work does."""

    async def expand(self, evaluator: Evaluator, row: Ciphertext) -> Residues:
        """Return the columns of a row."""

    async def prepare(self, evaluator: Evaluator, row: Ciphertext) -> ReadyProbe:
        """Expand a probe and compute its checks."""

    async def score(
        self, evaluator: Evaluator, probe: Probe, tiles: Sequence[Residues]
    ) -> list[Sealed]:
        """Return one sealed result per block."""


class ThreadExecutor:
    """The executor of a single machine."""

    def __init__(self, threads: Threads) -> None:
        self._pool = threads.compute

    async def expand(self, evaluator: Evaluator, row: Ciphertext) -> Residues:
        """See :class:`Executor`."""
        return await finish(self._pool, evaluator.expand, row)

    async def prepare(self, evaluator: Evaluator, row: Ciphertext) -> ReadyProbe:
        """See :class:`Executor`."""
        return await finish(self._pool, _prepare, evaluator, row)

    async def score(
        self, evaluator: Evaluator, probe: Probe, tiles: Sequence[Residues]
    ) -> list[Sealed]:
        """See :class:`Executor`."""
        return await finish(self._pool, _score, evaluator, probe, tiles)


def _prepare(evaluator: Evaluator, row: Ciphertext) -> ReadyProbe:
    columns = evaluator.expand(row)
    norm, projection = evaluator.checks(row, columns)
    return ReadyProbe(evaluator.prepare(columns), Sealed.of(norm), Sealed.of(projection))


def _score(evaluator: Evaluator, probe: Probe, tiles: Sequence[Residues]) -> list[Sealed]:
    (results,) = evaluator.score_many([probe], tiles)
    return [Sealed.of(result) for result in results]
