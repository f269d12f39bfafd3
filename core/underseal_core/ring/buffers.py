"""Memory of large arrays, used again.

The system clears every page that it hands out, which took a quarter of a server's time: an
expansion needs tens of megabytes, and gave them back after each search.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]

SMALLEST: Final = 1 << 18
"""Words of an array that is kept: a megabyte. Smaller ones the allocator reuses by itself."""
IDLE_WORDS: Final = 1 << 27
"""Words of all that wait to be used again: 512 MiB."""


class Buffers:
    """Hands out arrays, and takes their memory back when nothing refers to them any more.

    Thread-safe: it relies on operations of ``deque`` that are atomic, for memory may come back at
    any moment, also while some is handed out.

    Parameters
    ----------
    idle_words
        How much may wait to be used again, of all lengths.
    """

    def __init__(self, idle_words: int = IDLE_WORDS) -> None:
        self._limit = idle_words
        self._idle: deque[Words] = deque()

    def take(self, words: int) -> Words:
        """Return an uninitialised array of ``words`` words."""
        if words < SMALLEST:
            return np.empty(words, dtype=np.uint32)
        memory = self._found(words)
        # By way of a memoryview, so that views refer to this array and not to its memory.
        lent = np.frombuffer(memory.data, dtype=np.uint32)
        weakref.finalize(lent, self._give_back, memory).atexit = False
        return lent

    def _found(self, words: int) -> Words:
        for _ in range(len(self._idle)):
            try:
                memory = self._idle.popleft()
            except IndexError:  # another thread took it
                break
            if len(memory) == words:
                return memory
            self._idle.append(memory)
        return np.empty(words, dtype=np.uint32)

    def _give_back(self, memory: Words) -> None:
        self._idle.append(memory)
        while sum(len(one) for one in tuple(self._idle)) > self._limit:
            try:
                self._idle.popleft()  # the one that nobody has used for longest
            except IndexError:
                return
