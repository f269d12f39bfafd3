"""How long searches of a gallery take, measured as they run."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

_REMEMBERED: Final = 9
"""Measurements that count. Their median passes over blocks that had to come from the disk."""


class Pace:
    """Seconds of the stages of a search, from the latest measurements; 0 before there are any.

    A pass over the blocks takes ``one + more * (probes - 1)`` seconds.
    """

    def __init__(self) -> None:
        self._expand: deque[float] = deque(maxlen=_REMEMBERED)
        self._one: deque[float] = deque(maxlen=_REMEMBERED)
        self._more: deque[float] = deque(maxlen=_REMEMBERED)

    def expanded(self, seconds: float) -> None:
        """Note how long a probe took to expand, with its checks."""
        self._expand.append(seconds)

    def scored(self, probes: int, seconds: float) -> None:
        """Note how long a pass over all blocks took for so many probes."""
        if probes == 1 or not self._one:
            self._one.append(seconds / probes)
        else:
            self._more.append(max(0.0, seconds - self.one) / (probes - 1))

    @property
    def expand(self) -> float:
        """Seconds to expand a probe."""
        return median(self._expand) if self._expand else 0.0

    @property
    def one(self) -> float:
        """Seconds of a pass for one probe."""
        return median(self._one) if self._one else 0.0

    @property
    def more(self) -> float:
        """Seconds that each further probe adds to a pass; half of the first, until it is known."""
        return median(self._more) if self._more else self.one / 2

    def score(self, probes: int) -> float:
        """Seconds of a pass for so many probes."""
        return self.one + self.more * (probes - 1) if probes else 0.0

    @property
    def alone(self) -> float:
        """Seconds of a search that runs by itself."""
        return self.expand + self.one
