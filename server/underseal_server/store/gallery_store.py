"""One gallery on disk: admit, activate and remove units, read blocks, checkpoint.

``admit`` runs beside everything but itself. Other methods that change something must not run at
the same time as any other; ``underseal_server.engine.hosting`` sees to that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from underseal_core.errors import StorageFull, UndersealError
from underseal_core.gallery.block import Block
from underseal_core.gallery.blocks import Blocks
from underseal_core.gallery.memory import BlockMemory
from underseal_core.gallery.slots import SlotMap
from underseal_core.gallery.unit import Placement, Shape, usable_slots
from underseal_core.gallery.unit_files import StagedUnit, UnitFiles
from underseal_core.scheme.ciphertext import Ciphertext, Residues
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.snapshot import root_of_blocks
from underseal_server.store.amendments import Amendments, SignedAmendment, amended_name
from underseal_server.store.arrivals import Arrivals
from underseal_server.store.database import Unsettled, partly_done
from underseal_server.store.digests import NOTHING_KNOWN, Digests
from underseal_server.store.folders import Folders
from underseal_server.store.folding import Folding
from underseal_server.store.history import Snapshots
from underseal_server.store.records import Gallery, NewUnit, Receipt, StoredUnit, View
from underseal_server.store.templates import Templates
from underseal_server.store.units import Units

_log: Final = structlog.get_logger("underseal.store")


@dataclass(frozen=True, slots=True)
class Listed:
    """The units of a gallery, as its blocks ask for them."""

    gallery: Gallery
    units: Units

    def live(self, block: int) -> Sequence[StoredUnit]:
        """Return the units with a live template of a block."""
        return self.units.live(self.gallery, block)

    def named(self, names: Collection[bytes]) -> Sequence[StoredUnit]:
        """Return the units of these names, live or removed, as they are or were before."""
        return self.units.by_names(self.gallery, names)


class GalleryStore:
    """A gallery, brought up to date with the catalogue.

    Parameters
    ----------
    gallery
        Its row.
    catalogue
        Units, templates, new units, what a view needs of every block, snapshots that were named.
    folders
        Its files.
    evaluator
        Of its key epoch.
    clock
        Returns the present as text.
    memory
        Bounds the blocks in memory.

    Raises
    ------
    Damaged
        The catalogue contradicts itself, or the files cannot be read.
    """

    def __init__(
        self,
        gallery: Gallery,
        catalogue: tuple[Units, Templates, Arrivals, Digests, Snapshots, Amendments],
        folders: Folders,
        evaluator: Evaluator,
        clock: Callable[[], str],
        memory: BlockMemory,
    ) -> None:
        self.gallery = gallery
        self._units, self._templates, self._arrivals, self._digests = catalogue[:4]
        self._snapshots, self._amendments = catalogue[4:]
        self.evaluator = evaluator
        self._clock = clock
        self._view: View | None = None
        self._state = NOTHING_KNOWN
        self._viewing = threading.Lock()
        self.files = UnitFiles(folders.units, gallery.profile, gallery.dimension)
        listed = Listed(gallery, self._units)
        self._blocks = Blocks(folders.blocks, evaluator, self.files, listed, memory)
        degree = gallery.profile.degree
        self._slots = SlotMap(degree, usable_slots(degree, gallery.dimension))
        self._pending: dict[int, StoredUnit] = {}
        self._placing = threading.Lock()
        """Held while slots are taken or freed, and while the list of PENDING units changes."""
        self._open()

    def _open(self) -> None:
        live = self._units.live(self.gallery)
        self._pending = {unit.id: unit for unit in self._units.pending(self.gallery)}
        names: dict[int, set[bytes]] = {}
        for unit in live:
            names.setdefault(unit.placement.block, set()).add(unit.name)
        for unit in (*live, *self._pending.values()):
            self._slots.take(unit.placement, unit.erased)
        leaving = self._blocks.open(names)
        # What no checkpoint needs: broken uploads, units never committed, units folded out.
        waiting = {unit.name for unit in self._pending.values()}
        swept = self.files.sweep(leaving.union(waiting, *names.values()))
        if swept:
            _log.info("swept", gallery=self.gallery.name, files=swept)

    def close(self) -> None:
        """Take the blocks out of memory; the gallery must not be used any more."""
        self._blocks.close()

    def view(self) -> View:
        """Return the present state; computed once per version, from the blocks that changed.

        Raises
        ------
        Damaged
            This version was named with another root before.
        """
        with self._viewing:
            if self._view is None:
                view = self._compute_view()
                self._snapshots.note(self.gallery, view, self._clock())
                self._view = view
            return self._view

    @property
    def viewed(self) -> View | None:
        """The present state, if it is known already."""
        return self._view

    def outdate(self) -> None:
        """Take note that the catalogue has another version, with the same templates in it."""
        self._view = None

    def _compute_view(self) -> View:
        self._state = self._digests.read(self.gallery, self._state)
        version, live = self._state.version, self._state.live()
        roots = {number: self._blocks.get(number).tiles_root() for number in live}
        digests = {number: entries.sha256 for number, entries in live.items()}
        root = root_of_blocks(self.gallery.name, version, digests, roots)
        return View(version, root, sum(entries.templates for entries in live.values()), roots)

    def tiles(self, number: int) -> Residues:
        """Return a block's tiles, as of :meth:`view`. Do not write to them.

        Raises
        ------
        Damaged
            The checkpoint is, and a unit's file, too.
        """
        tiles = self._blocks.tiles(number)
        view = self._view
        if view is not None and view.blocks.get(number) != self._blocks.get(number).tiles_root():
            self._view = None  # the block was made again: its header had lied
        return tiles

    def resident(self, number: int) -> bool:
        """Whether a block's tiles are in memory."""
        return self._blocks.resident(number)

    def saved_root(self, number: int) -> str:
        """Return the root of a block's checkpoint; empty while the block differs from it.

        Raises
        ------
        Damaged
            A unit's file is.
        """
        return self._blocks.get(number).saved_root

    def receipt(self, unit: NewUnit) -> Receipt | None:
        """Return the receipt if the unit was stored before; see :meth:`Units.receipt`."""
        return self._units.receipt(self.gallery, unit)

    def admit(
        self, arrived: Sequence[tuple[NewUnit, StagedUnit]]
    ) -> list[Receipt | UndersealError]:
        """Store units, PENDING: one sync and one transaction for all of them.

        Parameters
        ----------
        arrived
            Units, no two of one token, with their ciphertexts, complete and synced.

        Returns
        -------
        list of Receipt or UndersealError
            One for each unit. A receipt's unit survives anything. ``Conflict``: token or template
            id taken; ``InvalidInput``: a subject would have too many templates. A refused unit
            is not stored, the others are.

        Raises
        ------
        StorageFull, Damaged
            The storage failed; nothing was changed.
        """
        outcomes: dict[bytes, Receipt | UndersealError] = {}
        fresh = []
        for unit, staged in arrived:
            known = self._known(unit)
            if known is None:
                fresh.append((unit, staged))
            else:
                outcomes[unit.token] = known
        if fresh:
            outcomes |= self._store(fresh)
        return [outcomes[unit.token] for unit, _ in arrived]

    def _known(self, unit: NewUnit) -> Receipt | UndersealError | None:
        try:
            return self.receipt(unit)
        except UndersealError as error:
            return error

    def _store(
        self, fresh: Sequence[tuple[NewUnit, StagedUnit]]
    ) -> dict[bytes, Receipt | UndersealError]:
        units = [unit for unit, _ in fresh]
        places = self._places(units)
        try:
            self.files.keep_all([(staged, unit.token) for unit, staged in fresh])
            placed = list(zip(units, places, strict=True))
            stored = self._arrivals.add(self.gallery, placed, self._clock())
        except Unsettled:
            raise  # the units may be in: what is not is swept when the gallery is opened again
        except BaseException:
            self._forget(zip(units, places, strict=True))
            raise
        refused = [isinstance(outcome, UndersealError) for outcome in stored]
        self._forget(entry for entry, gone in zip(placed, refused, strict=True) if gone)
        outcomes: dict[bytes, Receipt | UndersealError] = {}
        with self._placing:
            for unit, outcome in zip(units, stored, strict=True):
                if isinstance(outcome, StoredUnit):
                    self._pending[outcome.id] = outcome
                    outcomes[unit.token] = Receipt.of(outcome, repeated=False)
                else:
                    outcomes[unit.token] = outcome
        return outcomes

    def _places(self, units: Sequence[NewUnit]) -> list[Placement]:
        """Take slots for units."""
        places = []
        with self._placing:
            for unit in units:
                step = unit.shape.step(self.gallery.dimension)
                place = self._slots.find(step, len(unit.templates))
                self._slots.take(place)
                places.append(place)
        return places

    def _forget(self, placed: Iterable[tuple[NewUnit, Placement]]) -> None:
        """Give up units that were not stored after all: their slots and files."""
        for unit, place in placed:
            with self._placing:
                self._slots.free(place)
            self.files.remove(unit.token)

    def pending(self) -> tuple[StoredUnit, ...]:
        """Return the units that are PENDING, in the order of storing."""
        with self._placing:
            return tuple(self._pending.values())

    def folding(self) -> Folding:
        """Begin to add up PENDING units; for :meth:`activate`."""
        return Folding(self.evaluator, self.files)

    def prepare(self, numbers: Iterable[int]) -> None:
        """Make blocks ready to change, so that :meth:`activate` is short.

        Raises
        ------
        StorageFull
            One must be saved before it may change again, and there is no room.
        """
        for number in numbers:
            self._blocks.ready(number)
            self._blocks.tiles(number)

    def activate(self, folding: Folding) -> int:
        """Show units that were added up: in every search from now on.

        Parameters
        ----------
        folding
            The units, which are PENDING still. Their blocks are prepared.

        Returns
        -------
        int
            The version, one for all of them.

        Raises
        ------
        StorageFull, Damaged
            The catalogue failed; nothing was changed.
        """
        # Before the change is committed: a block opened after it would hold the units already.
        blocks = {number: self._blocks.get(number) for number in folding.sums}
        numbers = [unit.id for unit in folding.units]
        version = self._arrivals.activate(self.gallery, numbers, folding.sums)
        self._view = None
        with self._placing:
            for unit in folding.units:
                del self._pending[unit.id]
        for number, block in blocks.items():
            self._blocks.change(block, partial(Block.merge, other=folding.sums[number]))
        return version

    def leaving_row(self, unit: StoredUnit, template_ids: Sequence[bytes]) -> Ciphertext | None:
        """Return the row that removing these templates will fold out, to be expanded before.

        ``None`` for columns, and while other templates of the unit stay.
        """
        whole = len(set(template_ids)) == unit.placement.count and not unit.removed_version
        return next(self.files.ciphertexts(unit)) if whole and unit.shape is Shape.ROW else None

    def remove(
        self, unit: StoredUnit, template_ids: Sequence[bytes], columns: Residues | None
    ) -> int:
        """Remove templates of one unit.

        While others of the unit live, a removed template is dead: out of the snapshot, so that
        auditors ignore its slot, and without its label. With the last one the unit is
        subtracted, which leaves the block as if it had never been there, and its file deleted.

        Parameters
        ----------
        unit
            The unit.
        template_ids
            Some of its templates; those removed before are ignored.
        columns
            Its expansion if at hand.

        Returns
        -------
        int
            How many were removed.
        """
        block = self._blocks.ready(unit.placement.block)
        removed = self._units.remove(self.gallery, unit, template_ids, self._clock())
        if not removed:
            return 0
        self._view = None
        (now,) = self._units.by_ids([unit.id])
        if now.removed_version:
            with self._placing:
                self._slots.free(unit.placement, unit.erased)
            self._blocks.change(block, lambda block: block.fold_out(unit, columns))
        return removed

    def amend(
        self,
        unit: StoredUnit,
        amendment: SignedAmendment,
        staged: StagedUnit,
        columns: tuple[Residues, Residues] | None,
    ) -> StoredUnit:
        """Let new ciphertexts take the place of a unit's, and its erased slots be free.

        Returns the unit as it is then: nothing of the old ciphertexts is left, no file and no part
        of the block.

        Parameters
        ----------
        unit
            As it is now.
        amendment
            Says what takes its place.
        staged
            That, complete and synced, of the amendment's hash.
        columns
            The expansions of the old and the new row.

        Raises
        ------
        Conflict
            The amendment is of another state of the unit; nothing was changed.
        StorageFull, Damaged
            The storage failed; amend again, also when it says that a part was done.
        """
        number = unit.placement.block
        if not amendment.done(unit):
            block, name = self._blocks.ready(number), amended_name(unit, amendment)
            self.files.keep(staged, name)
            try:
                self._amendments.put(self.gallery, unit, amendment)
            except Unsettled:
                raise  # as in _store
            except BaseException:
                self.files.remove(name)
                raise
            with partly_done():
                unit = self._follow(block, unit, columns)
        with partly_done():
            self._blocks.get(number).checkpoint()
        return unit

    def _follow(
        self, block: Block, unit: StoredUnit, columns: tuple[Residues, Residues] | None
    ) -> StoredUnit:
        """Follow the catalogue, which has an amendment of a unit now."""
        self._view, (before, after) = None, columns or (None, None)
        (now,) = self._units.by_ids([unit.id])
        with self._placing:
            self._slots.erase(unit.placement, sorted(set(now.erased) - set(unit.erased)))

        def swap(block: Block) -> None:
            block.fold_out(unit, before)
            block.fold_in(now, after)

        self._blocks.change(block, swap)
        return now

    def checkpoint(self) -> None:
        """Save every changed block; one that cannot be stays as it is and is tried again."""
        self._blocks.checkpoint()
        with self._viewing:
            self._write_digests()

    def _write_digests(self) -> None:
        """Write down what a view needs of the catalogue, so that the next start finds it."""
        try:
            state = self._digests.read(self.gallery, self._state)
            self._state = self._digests.write(self.gallery, state)
        except StorageFull as error:
            _log.warning("digests not saved", gallery=self.gallery.name, reason=error.public)

    def unsaved(self) -> bool:
        """Whether a checkpoint would do something."""
        if self._blocks.unsaved():
            return True
        return not all(block.written for block in self._state.blocks.values())
