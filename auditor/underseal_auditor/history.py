"""Which units every block of a mirrored gallery held, at any of its versions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from underseal_core.gallery.unit import Unit

_VERSIONS_KEPT: Final = 4


@dataclass(frozen=True, slots=True)
class Span:
    """A unit is there from version ``added`` on and from ``removed`` on no more; 0: it still is.

    ``former``: as it was before its last redaction; no version that counts has it.
    """

    unit: Unit
    added: int
    removed: int
    former: bool = False


class History:
    """All units that a gallery ever had, as of one mirrored version.

    Parameters
    ----------
    version
        Up to which the spans are complete.
    """

    def __init__(self, version: int, spans: Iterable[Span]) -> None:
        self.version = version
        self._spans = tuple(spans)
        self.units: Mapping[bytes, Unit] = {span.unit.name: span.unit for span in self._spans}
        self.former = frozenset(span.unit.name for span in self._spans if span.former)
        self._known: dict[int, Mapping[int, frozenset[bytes]]] = {}

    def at(self, version: int) -> Mapping[int, frozenset[bytes]]:
        """Return the names of the units of every block that held one, by number."""
        found = self._known.get(version)
        if found is None:
            found = self._blocks(version)
            if len(self._known) >= _VERSIONS_KEPT:
                self._known = {}
            self._known[version] = found
        return found

    def _blocks(self, version: int) -> Mapping[int, frozenset[bytes]]:
        blocks: dict[int, set[bytes]] = {}
        for span in self._spans:
            if not span.former and span.added <= version and not 0 < span.removed <= version:
                blocks.setdefault(span.unit.placement.block, set()).add(span.unit.name)
        return {number: frozenset(names) for number, names in sorted(blocks.items())}
