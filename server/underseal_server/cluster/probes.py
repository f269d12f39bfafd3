"""Probes that a shard has expanded: those of the searches that run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from underseal_core.gallery.memory import tiles_bytes
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext
from underseal_core.scheme.evaluation import Evaluator, Prepared, Probe


@dataclass(frozen=True, slots=True)
class Row:
    """A probe as it was sent, serialised; ``name``: see ``ReadyProbe``."""

    name: bytes
    data: bytes

    def parsed(self, evaluator: Evaluator) -> Ciphertext:
        """Return the row.

        Raises
        ------
        MalformedCiphertext
            It is none of the evaluator's profile.
        """
        return parse_ciphertext(self.data, evaluator.profile, Kind.PROBE_ROW)


class Probes:
    """Expands probes, and keeps them for the calls that follow.

    Parameters
    ----------
    limit
        Bytes; before it is passed, those that were not used for longest leave. One may be larger.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._expanded: OrderedDict[bytes, Probe] = OrderedDict()

    def prepare(self, evaluator: Evaluator, row: Row) -> bytes:
        """Expand a probe; return its norm, serialised."""
        return self._expand(evaluator, row).norm.to_bytes()

    def get(self, evaluator: Evaluator, row: Row) -> Probe:
        """Return a probe; expand it unless it is there."""
        if row.name not in self._expanded:
            self._expand(evaluator, row)
        self._expanded.move_to_end(row.name)
        return self._expanded[row.name]

    def drop(self, names: Collection[bytes]) -> None:
        """Let probes go: their memory is still in cache, for the next."""
        for name in names:
            self._expanded.pop(name, None)

    def _expand(self, evaluator: Evaluator, row: Row) -> Prepared:
        parsed = row.parsed(evaluator)
        self._make_room(evaluator)
        ready = evaluator.prepare(parsed)
        self._expanded[row.name] = ready.probe
        return ready

    def _make_room(self, evaluator: Evaluator) -> None:
        size = tiles_bytes(evaluator.profile, evaluator.dimension)
        held = sum(probe.tiles.nbytes for probe in self._expanded.values())
        while self._expanded and held + size > self._limit:
            _, gone = self._expanded.popitem(last=False)
            held -= gone.tiles.nbytes
