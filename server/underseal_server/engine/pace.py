"""How long searches of a gallery take, measured as they run."""

from __future__ import annotations

import time
from collections import deque
from statistics import median
from typing import Final

_REMEMBERED: Final = 9
"""Measurements that count. Their median passes over blocks that had to come from the disk."""
_FORGOTTEN: Final = 600.0
"""Seconds after which it does not count any more what was measured while nobody waited."""


class _Stage:
    """Seconds of one stage, from the latest measurements; 0 before there are any."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=_REMEMBERED)
        self._quiet: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)

    def __bool__(self) -> bool:
        return bool(self._latest)

    def took(self, seconds: float, *, quiet: bool) -> None:
        self._latest.append(seconds)
        if quiet:
            self._quiet.append((time.monotonic(), seconds))

    @property
    def now(self) -> float:
        """As it is at present."""
        return median(self._latest) if self._latest else 0.0

    @property
    def unhurried(self) -> float:
        """While nobody waits; as at present, where that was not for long."""
        since = time.monotonic() - _FORGOTTEN
        quiet = [seconds for moment, seconds in self._quiet if moment >= since]
        return median(quiet) if quiet else self.now


class Pace:
    """Seconds of the stages of a search, from the latest measurements; 0 before there are any.

    A pass over the blocks takes ``one + more * (probes - 1)`` seconds.
    """

    def __init__(self) -> None:
        self._expand = _Stage()
        self._one = _Stage()
        self._more = _Stage()

    def expanded(self, seconds: float, *, quiet: bool = False) -> None:
        """Note how long a probe took to expand, with its norm; ``quiet``: nobody waited."""
        self._expand.took(seconds, quiet=quiet)

    def scored(self, probes: int, seconds: float, *, quiet: bool = False) -> None:
        """Note how long a pass over all blocks took for so many probes."""
        if probes == 1 or not self._one:
            self._one.took(seconds / probes, quiet=quiet and probes == 1)
        else:
            self._more.took(max(0.0, seconds - self.one) / (probes - 1), quiet=False)

    @property
    def expand(self) -> float:
        """Seconds to expand a probe."""
        return self._expand.now

    @property
    def one(self) -> float:
        """Seconds of a pass for one probe."""
        return self._one.now

    @property
    def more(self) -> float:
        """Seconds that each further probe adds to a pass; half of the first, until it is known."""
        return self._more.now if self._more else self.one / 2

    def score(self, probes: int) -> float:
        """Seconds of a pass for so many probes."""
        return self.one + self.more * (probes - 1) if probes else 0.0

    @property
    def alone(self) -> float:
        """Seconds of a search that runs by itself."""
        return self.expand + self.one

    @property
    def unhurried(self) -> float:
        """Seconds of a search that runs by itself while nobody waits.

        Under load, who arrives and who is turned away takes time of the processors, too.
        """
        return self._expand.unhurried + self._one.unhurried
