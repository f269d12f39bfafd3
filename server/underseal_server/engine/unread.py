"""How many bytes of results wait for clients to read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class Unread:
    """Counts bytes for each client.

    Parameters
    ----------
    limit
        A client with so many gets no further search until it has read some.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: Counter[str] = Counter()
        self.read: Callable[[], None] = lambda: None
        """Called when a client may get further searches again."""

    @property
    def total(self) -> int:
        """Bytes of all clients."""
        return self._held.total()

    def full(self, client: str) -> bool:
        """Tell whether a client must read first."""
        return self._held[client] >= self._limit

    def add(self, client: str, size: int) -> None:
        """Count ``size`` bytes more, or less."""
        before = self.full(client)
        self._held[client] += size
        if not self._held[client]:
            del self._held[client]
        if before and not self.full(client):
            self.read()
