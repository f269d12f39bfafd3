"""An auditor's replica of the galleries: catalogues and blocks, from what enrollers signed.

The catalogue comes from the mirror, with every unit's signed receipt; the units from the server,
each by the hash in its receipt; the blocks are their sums, folded here. So the auditor knows what
every block must hold, at every version that a server can still sign a result for, and computes a
search again without asking anybody (docs/adr/0010-guardians-hold-a-replica.md).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import structlog

from underseal_auditor.converted import EarlierUnits, UnitSource
from underseal_auditor.feed import CatalogueFeed
from underseal_auditor.gallery_replica import PATIENCE_SECONDS, Folded, GalleryReplica
from underseal_auditor.history import History
from underseal_auditor.mirror import Mirror
from underseal_auditor.verify.catalogue import View
from underseal_auditor.verify.fault import Rule, ServerFault
from underseal_auditor.verify.provenance import Enrollers
from underseal_core.bundle import PublicBundle
from underseal_core.errors import Busy, Damaged, NotFound, PermissionRefused
from underseal_core.gallery.memory import BlockMemory
from underseal_core.gallery.unit import Unit
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.statements import Pin, Snapshot

_log: Final = structlog.get_logger("underseal.replica")

ROUNDS: Final = 5
"""Tries to catch up with a gallery whose units are removed while they are fetched."""


class GallerySource(CatalogueFeed, UnitSource, Protocol):
    """A server as a replica asks it."""


class Replica:
    """Replicas of galleries of one key epoch. Thread-safe.

    Parameters
    ----------
    folder
        Its own: everything but the catalogue lies below it.
    mirror
        Holds the catalogues.
    evaluator
        Of the key epoch.
    sources
        The servers by name.
    earlier
        Units of earlier key epochs, and the key epoch itself.
    memory
        Bounds the blocks in memory; without it there is no bound.
    """

    def __init__(
        self,
        folder: Path,
        mirror: Mirror,
        evaluator: Evaluator,
        sources: Mapping[str, GallerySource],
        earlier: EarlierUnits,
        memory: BlockMemory | None = None,
    ) -> None:
        self._folder = folder
        self._evaluator = evaluator
        self._earlier = earlier
        self._memory = memory or BlockMemory(None)
        self._galleries: dict[tuple[str, str], GalleryReplica] = {}
        self._lock = threading.Lock()
        self.mirror = mirror
        self.sources = sources

    @property
    def bundle(self) -> PublicBundle:
        """The key epoch's."""
        return self._earlier.bundle

    def follow(self, server: str, gallery: str, pin: Pin, enrollers: Enrollers) -> History:
        """Bring one gallery up to date.

        Parameters
        ----------
        pin
            What it is pinned to: this key epoch.
        enrollers
            Keys by name of the clients that may enrol, from the policy.

        Raises
        ------
        Damaged
            See ``Mirror.update``; or a unit is not the one that was enrolled.
        Busy, NotFound
            The server is away, or has no such gallery; or it changes too fast.
        """
        one, source = self._gallery(server, gallery), self._source(server)
        if not one.following.acquire(timeout=PATIENCE_SECONDS):
            raise Busy("this auditor is still copying the gallery", retry_after_ms=5000)
        try:
            wrong: set[bytes] = set()
            for _ in range(ROUNDS):
                self.mirror.update(server, gallery, source, pin, enrollers)
                history = self.mirror.history(server, gallery)
                if self._fetch(one, (server, gallery), history, wrong):
                    one.fold(history)
                    return history
        finally:
            one.following.release()
        raise Busy("the gallery changes faster than it can be copied", retry_after_ms=5000)

    @contextmanager
    def at(
        self, server: str, snapshot: Snapshot, pin: Pin, enrollers: Enrollers
    ) -> Iterator[tuple[View, Folded]]:
        """Hold catalogue and blocks as of a snapshot that the server signed.

        Raises
        ------
        ServerFault
            The snapshot is not that of the catalogue, or its blocks hold something else.
        Mismatch
            The gallery has changed so much since that it cannot be rebuilt.
        Busy, Damaged, NotFound
            See :meth:`follow`, which brings it up to date if need be.
        """
        gallery, one = snapshot.gallery, self._gallery(server, snapshot.gallery)
        history = self.mirror.history(server, gallery)
        if history.version < snapshot.version or one.missing(history):
            history = self.follow(server, gallery, pin, enrollers)
        view = self._view(server, snapshot)
        with one.at(history, snapshot.version) as folded:
            if folded.roots != snapshot.tiles_roots():
                raise ServerFault(Rule.TILES)
            yield view, folded

    def units(self, server: str, snapshot: Snapshot, blocks: Iterable[int]) -> Mapping[bytes, Unit]:
        """Return the units of some blocks by token, as of a snapshot that was mirrored."""
        history = self.mirror.history(server, snapshot.gallery)
        held = history.at(snapshot.version)
        found = [history.units[name] for n in blocks for name in held.get(n, ())]
        return {unit.token: unit for unit in found}

    def ciphertexts(self, server: str, gallery: str, unit: Unit) -> Iterator[Ciphertext]:
        """Yield a unit's ciphertexts; see :meth:`GalleryReplica.ciphertexts`."""
        return self._gallery(server, gallery).ciphertexts(unit)

    def checkpoint(self) -> None:
        """Write to disk what changed."""
        for one in list(self._galleries.values()):
            one.checkpoint()

    def _view(self, server: str, snapshot: Snapshot) -> View:
        try:
            return self.mirror.view(server, snapshot)
        except Damaged as error:
            raise ServerFault(Rule.CATALOGUE) from error

    def _fetch(
        self, one: GalleryReplica, place: tuple[str, str], history: History, wrong: set[bytes]
    ) -> bool:
        """Fetch what is missing, and tell whether everything is there.

        ``wrong``: names of units that came with another hash, to which the first such time is
        added: the catalogue may tell that they were amended meanwhile.
        """
        complete, (server, gallery) = True, place
        missing = one.missing(history)
        if missing:
            _log.info("copying", gallery=gallery, units=len(missing), version=history.version)
        for unit in missing:
            try:
                one.keep(unit, self._ciphertexts(server, gallery, unit))
            except NotFound:  # it was removed meanwhile
                complete = False
            except Damaged:
                if unit.name in wrong:
                    raise
                wrong.add(unit.name)
                complete = False
        return complete

    def _ciphertexts(self, server: str, gallery: str, unit: Unit) -> Iterator[bytes]:
        attested = self.mirror.attested(server, gallery, unit.token)
        if attested.epoch == self._earlier.bundle.epoch:
            return self._source(server).unit(gallery, unit.token)
        return self._earlier.unit(self._source(server), server, attested)

    def _source(self, server: str) -> GallerySource:
        source = self.sources.get(server)
        if source is None:
            raise PermissionRefused(
                "this auditor does not know where the server is", hint="ask the auditors"
            )
        return source

    def _gallery(self, server: str, gallery: str) -> GalleryReplica:
        with self._lock:
            if (server, gallery) not in self._galleries:
                one = GalleryReplica(self._folder / server / gallery, self._evaluator, self._memory)
                one.sweep(self.mirror.history(server, gallery))
                self._galleries[server, gallery] = one
            return self._galleries[server, gallery]
