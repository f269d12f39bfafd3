"""A gallery's life beside a plain model of it: what was answered, what was refused, what is open.

Calls go over gRPC to a server that may die at any of them. After that everything the model knows
is looked up: templates by the list, scores by searches that are opened with the test's own key.
"""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Self, TypeVar

import numpy as np

from tests.server_fixtures import Lab, Vectors, unit_vectors
from tests.server_harness import Caller, calling, ciphertexts, unit_parts
from underseal_core.errors import (
    Busy,
    Damaged,
    Mismatch,
    StorageFull,
    UndersealError,
)
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_proto.v1 import gallery_pb2
from underseal_server.store.records import NewTemplate

T = TypeVar("T")

CLOSE = 2.0**-8
NAME = "missing"
DEADLINE = 60.0
FAILURES = (StorageFull, Busy, Damaged)
"""What a call raises when it is not answered."""
LARGEST = 12
"""Templates of a unit."""


class Wrong(AssertionError):
    """The server lost, doubled or invented something."""


@dataclass
class ModelUnit:
    """A unit as its client knows it. ``slots``: of each template, once they are known."""

    token: bytes
    shape: Shape
    templates: list[NewTemplate]
    vectors: Vectors
    sealed: dict[str, list[Ciphertext]] = field(default_factory=dict)
    """Its ciphertexts, by key epoch."""
    live: set[bytes] = field(default_factory=set)
    slots: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    @property
    def ids(self) -> list[bytes]:
        return [template.template_id for template in self.templates]


@dataclass(frozen=True)
class Open:
    """A change that was neither answered nor refused: done wholly or not at all."""

    unit: ModelUnit
    removed: frozenset[bytes] = frozenset()
    """What is removed; empty for an enrolment."""


class GalleryLife:
    """One gallery, over as many servers as it takes.

    Parameters
    ----------
    labs
        Key epochs, the first being the gallery's and each following the one before.
    credentials
        Folder of the client's.
    random
        Decides what is done.
    """

    def __init__(self, labs: Sequence[Lab], credentials: Path, random: Random) -> None:
        self._labs = list(labs)
        self._credentials = credentials
        self._random = random
        self._pool = unit_vectors(64, labs[0].dimension, seed=random.getrandbits(30))
        self._caller: Caller | None = None
        self.lab = self._labs[0]
        self.units: dict[bytes, ModelUnit] = {}
        self.gone: list[ModelUnit] = []
        """Units that are removed for good."""
        self.open: Open | None = None
        self.refused: Open | None = None
        """The last change of which nothing is to be there; it is made again by settling."""
        self.done: list[str] = []
        """What was done so far, for messages."""

    def copy(self) -> Self:
        """Return the same life as it is now, for another copy of the gallery."""
        other = copy.copy(self)
        other.units = {token: copy.deepcopy(unit) for token, unit in self.units.items()}
        other.gone = list(self.gone)
        if self.open is not None:  # of the copied units, not of these
            unit = other.units.get(self.open.unit.token, copy.deepcopy(self.open.unit))
            other.open = Open(unit, self.open.removed)
        return other

    @contextmanager
    def connected(self, port: int) -> Iterator[None]:
        """Call the server at ``port`` inside the context."""
        with calling(port, self._credentials, self.lab) as caller:
            self._caller = caller
            try:
                yield
            finally:
                self._caller = None

    @property
    def caller(self) -> Caller:
        assert self._caller is not None
        self._caller.lab = self.lab
        return self._caller

    def create(self) -> None:
        """Create the gallery."""
        self.caller.create(NAME, max_templates_per_subject=1000)

    # --- changes ------------------------------------------------------------------------------

    def step(self) -> None:
        """Do something at random, usually a change.

        Raises
        ------
        Unanswered
            The server did not answer, or its storage failed.
        """
        live = sum(len(unit.live) for unit in self.units.values())
        removing = self.remove_some, self.remove_unit, self.remove_subject
        enrolling = self.enrol, self.enrol, self.enrol_again
        others = self.search, self.check_list
        weights = [3.0] * 3 + [2.0 if live > 30 else 0.7] * 3 + [0.5] * 2
        (action,) = self._random.choices([*enrolling, *removing, *others], weights)
        self.done.append(action.__name__)
        with answered():
            action()

    def new_unit(self, shape: Shape | None = None) -> ModelUnit:
        """Draw a unit."""
        shape = shape or self._random.choice([Shape.ROW, Shape.ROW, Shape.COLUMNS])
        count = self._random.choice([1, 1, 2, LARGEST])
        chosen = [self._random.randrange(len(self._pool)) for _ in range(count)]
        subject = secrets.token_bytes(16)
        templates = [
            NewTemplate(secrets.token_bytes(16), subject, b"sealed:" + secrets.token_bytes(24))
            for _ in range(count)
        ]
        return ModelUnit(secrets.token_bytes(16), shape, templates, self._pool[chosen])

    def enrol(self) -> None:
        """Enrol a new unit."""
        self.send(self.new_unit())

    def send(self, unit: ModelUnit) -> gallery_pb2.EnrolResponse | None:
        """Send a unit, as often as the key epoch changes meanwhile."""

        def call() -> gallery_pb2.EnrolResponse | None:
            epoch = self.lab.bundle.epoch
            if epoch not in unit.sealed:
                if unit.token in self.units:
                    return None  # stored, and moved meanwhile: its token is for nothing else
                unit.sealed[epoch] = ciphertexts(self.lab, unit.vectors, unit.shape)
            parts = unit_parts(unit.templates, unit.sealed[epoch], unit.shape, unit.token)
            caller = self.caller
            (receipt,) = caller.stream([caller.header(NAME), *caller.signed(parts, NAME)])
            return receipt

        receipt = self.ask(call, Open(unit))
        if receipt is not None:
            if receipt.repeated_token != (unit.token in self.units or unit in self.gone):
                raise Wrong("a repeated unit is answered as a new one, or the other way round")
            if not receipt.repeated_token:
                self._enrolled(unit)
                places = range(len(unit.templates))
                slots = [receipt.first_slot + place * receipt.slot_step for place in places]
                unit.slots = {
                    one: (receipt.block, slot) for one, slot in zip(unit.ids, slots, strict=True)
                }
        return receipt

    def _enrolled(self, unit: ModelUnit) -> None:
        unit.live = set(unit.ids)
        self.units[unit.token] = unit

    def enrol_again(self) -> None:
        """Send a unit that is stored; its ciphertexts must be those of its first sending."""
        epoch = self.lab.bundle.epoch
        known = [unit for unit in self.units.values() if set(unit.sealed) == {epoch}]
        if known:
            self.send(self._random.choice(known))

    def remove_some(self) -> None:
        """Remove some templates of one unit."""
        if self.units:
            unit = self._random.choice(list(self.units.values()))
            some = self._random.sample(sorted(unit.live), self._random.randint(1, len(unit.live)))
            self.remove(unit, frozenset(some))

    def remove_unit(self) -> None:
        """Remove all templates of one unit by their ids."""
        if self.units:
            unit = self._random.choice(list(self.units.values()))
            self.remove(unit, frozenset(unit.live))

    def remove(self, unit: ModelUnit, ids: frozenset[bytes]) -> None:
        """Remove templates of one unit."""
        request = gallery_pb2.RemoveTemplatesRequest(gallery=NAME, template_ids=sorted(ids))
        self._remove(unit, ids, request)

    def remove_subject(self) -> None:
        """Remove a subject: here, a unit."""
        if self.units:
            unit = self._random.choice(list(self.units.values()))
            subject = unit.templates[0].subject_id
            request = gallery_pb2.RemoveTemplatesRequest(gallery=NAME, subject_id=subject)
            self._remove(unit, frozenset(unit.live), request)

    def _remove(
        self, unit: ModelUnit, ids: frozenset[bytes], request: gallery_pb2.RemoveTemplatesRequest
    ) -> None:
        answer = self.ask(lambda: self.caller.galleries.RemoveTemplates(request), Open(unit, ids))
        if answer is not None:
            if answer.removed != len(ids):
                raise Wrong("not as many templates were removed as were there")
            self._removed(unit, ids)

    def _removed(self, unit: ModelUnit, ids: frozenset[bytes]) -> None:
        unit.live -= ids
        if not unit.live:
            self.gone.append(self.units.pop(unit.token))

    def ask(self, call: Callable[[], T], change: Open) -> T | None:
        """Return the answer, or ``None`` when the change is refused (and then not done) or open.

        An error that says so is a refusal; a lost connection and any other error of the storage
        leave open whether the change was made.
        """
        while True:
            try:
                return call()
            except Mismatch:
                self.look_for_epoch()
            except FAILURES as error:
                if "nothing was changed" in error.public:
                    self.refused = change
                    return None
                self.open = change
                raise Unanswered(error) from error

    def look_for_epoch(self) -> None:
        """Take the key epoch that the gallery is of."""
        with answered():
            found = self.caller.state(NAME)
            known = [lab for lab in self._labs if lab.bundle.epoch == found.pin.key_epoch]
            if not known:
                if found.snapshot_root:
                    raise Wrong("the gallery is open under keys that nobody made")
                raise Damaged("the server cannot open the gallery", hint="call the operator")
        (self.lab,) = known

    # --- what must be there -------------------------------------------------------------------

    def settle(self) -> None:
        """Find out what became of the change that is open or refused, and make it again.

        What a disk that failed has left behind, such as a connection of the catalogue that may only
        read, may still refuse a call, but not for long.
        """
        self.look_for_epoch()
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                self.make_again()
                if self.refused is None and self.open is None:
                    self._wait_for_pending()
                    self.check()
                    return
            except Unanswered:
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                raise Wrong("what is made again is not answered")
            time.sleep(0.05)

    def look(self) -> None:
        """Compare everything, asking once: what is damaged stays so however often one asks."""
        self.look_for_epoch()
        with answered():
            self._wait_for_pending()
        self.check()

    def make_again(self) -> None:
        """Make the change that is open or refused again, if there is one."""
        if (change := self.refused or self.open) is not None:
            self._settle(change, may_be_done=self.refused is None)

    def _wait_for_pending(self) -> None:
        """Wait until every unit that is stored is in searches as well."""
        deadline = time.monotonic() + DEADLINE
        while self.caller.state(NAME).pending_templates:
            if time.monotonic() > deadline:
                raise Wrong("units stay pending")
            time.sleep(0.02)

    def _settle(self, change: Open, *, may_be_done: bool) -> None:
        self.open = self.refused = None
        listed = self.listed()
        if change.removed:
            self._settle_removal(change, listed, may_be_done=may_be_done)
        elif change.unit.token not in self.units and change.unit not in self.gone:
            self._settle_enrolment(change.unit, listed, may_be_done=may_be_done)

    def _settle_enrolment(
        self, unit: ModelUnit, listed: dict[bytes, tuple[int, int]], *, may_be_done: bool
    ) -> None:
        there = [one for one in unit.ids if one in listed]
        if there and len(there) != len(unit.ids):
            raise Wrong("an enrolment that was not answered is there in part")
        if there and not may_be_done:
            raise Wrong("an enrolment that was refused is there")
        if there:
            self._enrolled(unit)
            unit.slots = {one: listed[one] for one in unit.ids}
        if set(unit.sealed) == {self.lab.bundle.epoch}:
            self.send(unit)

    def _settle_removal(
        self, change: Open, listed: dict[bytes, tuple[int, int]], *, may_be_done: bool
    ) -> None:
        left = change.removed & set(listed)
        if left != change.removed and (left or not may_be_done):
            raise Wrong("a removal that was not answered is done in part, or one that was refused")
        if left:
            self.remove(change.unit, change.removed)
        else:
            self._removed(change.unit, change.removed)

    def listed(self) -> dict[bytes, tuple[int, int]]:
        """Return block and slot of every template that the server lists."""
        found: dict[bytes, tuple[int, int]] = {}
        token = ""
        while True:
            request = gallery_pb2.ListTemplatesRequest(
                gallery=NAME, page_size=100, page_token=token
            )
            page = self.caller.galleries.ListTemplates(request)
            for entry in page.templates:
                if entry.template_id in found:
                    raise Wrong("a template is listed twice")
                found[entry.template_id] = (entry.block, entry.slot)
            token = page.next_page_token
            if not token:
                return found

    def check_list(self) -> None:
        """Compare the list of templates with the model."""
        wanted = {
            one: place
            for unit in self.units.values()
            for one, place in unit.slots.items()
            if one in unit.live
        }
        listed = self.listed()
        if listed != wanted:
            lost, more = set(wanted) - set(listed), set(listed) - set(wanted)
            raise Wrong(f"{len(lost)} templates are lost, {len(more)} invented, or some moved")
        if self.caller.state(NAME).templates != len(wanted):
            raise Wrong("the gallery does not count its templates right")

    def search(self) -> None:
        """Compare the scores of a random probe with those of the plain vectors."""
        while self.units:
            probe = self._pool[self._random.randrange(len(self._pool))]
            try:
                found = self.caller.search(probe, NAME)
            except Mismatch:
                self.look_for_epoch()
                continue
            self.compare(probe, self.caller.scores(found))
            break

    def compare(self, probe: Vectors, scores: dict[int, Vectors]) -> None:
        """Compare scores by slot with the plain ones; slots that nobody has are to be 0."""
        blocks = {place[0] for unit in self.units.values() for place in unit.slots.values()}
        if set(scores) != blocks:
            raise Wrong("the search did not go over the blocks that hold templates")
        for number, block in scores.items():
            wanted, told = self._plain_scores(number, probe, len(block))
            worst = float(np.abs(block - wanted)[told].max())
            if worst > CLOSE:
                raise Wrong(f"a score of block {number} is wrong by {worst}")

    def _plain_scores(self, number: int, probe: Vectors, slots: int) -> tuple[Vectors, Vectors]:
        """Return the right scores of a block, and for which slots there is one."""
        wanted, told = np.zeros(slots), np.ones(slots, dtype=bool)
        for unit in self.units.values():
            for one, score in zip(unit.ids, unit.vectors @ probe, strict=True):
                block, slot = unit.slots.get(one, (-1, -1))  # erased: the slot may be another's
                if block == number:
                    wanted[slot], told[slot] = score, one in unit.live
        return wanted, told

    def check(self) -> None:
        """Compare everything."""
        with answered():
            self.check_list()
            self.search()


class Unanswered(Exception):
    """The call ended without an answer or a refusal."""

    def __init__(self, error: UndersealError) -> None:
        super().__init__(error.public)
        self.error = error
        if "internal error" in error.public:
            raise Wrong("the server does not say what happened")


@contextmanager
def answered() -> Iterator[None]:
    """Say of a call that it was not answered.

    Raises
    ------
    Unanswered
        In place of what the storage or the connection raises.
    """
    try:
        yield
    except FAILURES as error:
        raise Unanswered(error) from error
