"""Probes that a shard has expanded: those of the searches that run."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from underseal_core.gallery.memory import tiles_bytes
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext
from underseal_core.scheme.evaluation import Evaluator, Probe
from underseal_server.engine.executor import expand_probe, prepare_probe


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

    def prepare(self, evaluator: Evaluator, row: Row) -> tuple[bytes, bytes]:
        """Expand a probe; return its norm and its projection, serialised."""
        parsed = row.parsed(evaluator)
        self._make_room(evaluator)
        ready = prepare_probe(evaluator, parsed)
        if ready.expanded is not None:
            self._expanded[row.name] = ready.expanded
        return ready.norm.data, ready.projection.data

    def get(self, evaluator: Evaluator, row: Row) -> Probe:
        """Return a probe; expand it unless it is there."""
        if row.name not in self._expanded:
            parsed = row.parsed(evaluator)
            self._make_room(evaluator)
            self._expanded[row.name] = expand_probe(evaluator, parsed)
        self._expanded.move_to_end(row.name)
        return self._expanded[row.name]

    def _make_room(self, evaluator: Evaluator) -> None:
        size = tiles_bytes(evaluator.profile, evaluator.dimension)
        held = sum(probe.tiles.nbytes for probe in self._expanded.values())
        while self._expanded and held + size > self._limit:
            _, gone = self._expanded.popitem(last=False)
            held -= gone.tiles.nbytes
