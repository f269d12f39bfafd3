"""A gallery that is open, with its locks.

What stores units holds ``admitting``. A change of a gallery's blocks holds ``changing`` (one at a
time) and, while it shows, ``shared`` for writing. Who needs several takes them in this order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor as Pool
from contextlib import asynccontextmanager
from dataclasses import InitVar, dataclass, field

from underseal_core.errors import Busy, Mismatch, NotFound
from underseal_core.gallery.memory import tiles_bytes
from underseal_core.scheme.evaluation import Evaluator
from underseal_server.engine.intake import Intake
from underseal_server.engine.locks import SharedLock
from underseal_server.engine.pace import Pace
from underseal_server.pins import MOVED_HINT
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import Gallery


class Moved(Mismatch):
    """The gallery went to another key epoch while the call ran. Fetch the new bundle."""


@dataclass(eq=False, slots=True)
class Hosted:
    """An open gallery."""

    store: GalleryStore
    settled: Callable[[], bool]
    """Whether it is known what became of every change; if not, it must be opened again."""
    pool: InitVar[Pool]
    intake: Intake = field(init=False)
    admitting: asyncio.Lock = field(default_factory=asyncio.Lock)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    shared: SharedLock = field(default_factory=SharedLock)
    pace: Pace = field(default_factory=Pace)
    deleted: bool = False
    moved: bool = False

    def __post_init__(self, pool: Pool) -> None:
        """Begin to take units."""
        self.intake = Intake(self, pool)

    @property
    def gallery(self) -> Gallery:
        """Its row."""
        return self.store.gallery

    @property
    def evaluator(self) -> Evaluator:
        """Of its key epoch."""
        return self.store.evaluator

    @property
    def probe_bytes(self) -> int:
        """Memory of an expanded probe: that of a block."""
        return tiles_bytes(self.evaluator.profile, self.evaluator.dimension)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[GalleryStore]:
        """Read one version."""
        async with self.shared.reading():
            self.check()
            yield self.store

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[GalleryStore]:
        """Change the version; needs ``changing``."""
        async with self.shared.writing():
            self.check()
            yield self.store

    def check(self) -> None:
        """Refuse when the gallery was deleted, or is of another key epoch by now.

        Raises
        ------
        NotFound
            It was deleted.
        Moved
            It is of another key epoch.
        Busy
            It must be opened again.
        """
        if self.deleted:
            raise NotFound(f"there is no gallery {self.gallery.name}")
        if self.moved:
            raise Moved(f"gallery {self.gallery.name} has moved to new keys", hint=MOVED_HINT)
        if not self.settled():
            raise Busy(f"gallery {self.gallery.name} is being opened again")
