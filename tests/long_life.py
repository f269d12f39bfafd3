"""A gallery's life with everything that may happen in years: see ``gallery_life``.

Labels change, templates reach the end of their time, and k auditors erase what was removed. All of
it may be cut off at any point; :meth:`LongLife.settle` then finds out what became of it.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Self

from tests.gallery_life import DEADLINE, FAILURES, NAME, GalleryLife, ModelUnit, Wrong, answered
from tests.redaction_oracle import redact
from tests.server_fixtures import Lab
from tests.server_harness import Caller, calling
from tests.server_relabelling import relabelling, shown
from tests.server_rotation import CouncilLab
from underseal_core.amendment import Amendment, write_places
from underseal_core.errors import Mismatch, UndersealError
from underseal_core.gallery.unit import Placement, Shape, coefficients
from underseal_core.provenance import EnrolReceipt
from underseal_core.scheme.ciphertext import Kind, parse_ciphertext, plain_sha256
from underseal_core.statements import utc_text
from underseal_proto.v1 import gallery_pb2
from underseal_server.wire import envelope_to_wire

SHORT = timedelta(seconds=2)
"""For which some templates are kept; statements write whole seconds."""


@dataclass(frozen=True)
class NewLabels:
    """Labels that are on their way, and the signed request, which may be sent again.

    ``lab``: of the key epoch that it is for. ``refused``: none of them may be there.
    """

    labels: dict[bytes, bytes]
    request: gallery_pb2.RelabelRequest
    lab: Lab
    refused: bool = False


@dataclass(frozen=True)
class Erasing:
    """An amendment that is on its way: the unit, what leaves it, and the messages.

    ``refused``: it must not be done.
    """

    unit: ModelUnit
    ids: frozenset[bytes]
    messages: tuple[gallery_pb2.AmendUnitRequest, ...]
    refused: bool = False


class LongLife(GalleryLife):
    """One gallery, over as many servers as it takes."""

    _auditor: Caller

    def __init__(self, labs: Sequence[Lab], credentials: Path, random: Random) -> None:
        super().__init__(labs, credentials, random)
        self.labels: dict[bytes, bytes] = {}
        """Of templates that were given another one."""
        self.erased: dict[bytes, int] = {}
        """How often units were amended, by token."""
        self._relabelling: NewLabels | None = None
        self._erasing: Erasing | None = None
        self._leaving: set[bytes] = set()

    @contextmanager
    def connected(self, port: int) -> Iterator[None]:
        """Call the server at ``port`` inside the context, also as an auditor."""
        with (
            super().connected(port),
            calling(port, self._credentials.with_name("auditor"), self.lab) as auditor,
        ):
            self._auditor = auditor
            yield

    def copy(self) -> Self:
        """Return the same life as it is now, for another copy of the gallery."""
        other = super().copy()
        other.labels, other.erased = dict(self.labels), dict(self.erased)
        other._leaving = set(self._leaving)
        return other

    # --- changes ------------------------------------------------------------------------------

    def reseed(self, seed: int) -> None:
        """Decide from here on by this seed."""
        self._random.seed(seed)

    def make(self, change: Callable[[LongLife], object]) -> None:
        """Make a change.

        Raises
        ------
        Unanswered
            The server did not answer.
        """
        with answered():
            change(self)

    def relabel(self) -> None:
        """Give some templates of a unit new labels."""
        if not self.units:
            return
        unit = self._random.choice(list(self.units.values()))
        some = self._random.sample(sorted(unit.live), self._random.randint(1, len(unit.live)))
        labels = {one: secrets.token_bytes(24) for one in some}
        with answered():
            leaves = shown(self.caller, *some)
            request = relabelling(self.caller, leaves, labels, utc_text(datetime.now(UTC)))
            self._send_labels(NewLabels(labels, request, self.lab))

    def _send_labels(self, change: NewLabels) -> None:
        self._relabelling = change
        try:
            self.caller.galleries.Relabel(change.request)
        except Mismatch:  # refused: the gallery has gone to other keys meanwhile
            self.look_for_epoch()
            if self.lab is change.lab:
                raise
        except FAILURES as error:
            self._relabelling = replace(change, refused=_was_refused(error))
            raise
        else:
            self.labels |= change.labels
        self._relabelling = None

    def expire(self) -> None:
        """Enrol a row for two seconds, and wait until it is gone by itself."""
        self.enrol_until(self.new_unit(Shape.ROW), datetime.now(UTC) + SHORT)
        with answered():
            self._wait_for_leaving()

    def enrol_until(self, unit: ModelUnit, until: datetime) -> None:
        """Enrol a unit that leaves by itself; whoever settles waits until it has left."""
        self._leaving |= set(unit.ids)
        with answered():
            try:
                self.caller.enrol(
                    unit.vectors, unit.shape, unit.templates, keep_until=utc_text(until)
                )
            except Mismatch:
                self.look_for_epoch()

    def _wait_for_leaving(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while not self._leaving.isdisjoint(self.listed()):
            if time.monotonic() > deadline:
                raise Wrong("templates stay longer than they were to be kept")
            time.sleep(0.05)
        self._leaving = set()

    def erase(self) -> None:
        """Let k auditors erase what was removed from a unit that has others left.

        The gallery is not on its way to other keys.
        """
        units = [unit for unit in self.units.values() if set(unit.slots) - unit.live]
        if not units:
            return
        unit = self._random.choice(units)
        with answered():
            self.look_for_epoch()
            self._send_amendment(self._amended(unit, frozenset(set(unit.slots) - unit.live)))

    def _amended(self, unit: ModelUnit, ids: frozenset[bytes]) -> Erasing:
        """Redact a unit as it is stored, with the shares of two of three auditors."""
        made = self._council.made
        asked = gallery_pb2.FetchUnitRequest(gallery=NAME, token=unit.token)
        parts = [part.ciphertext for part in self._auditor.galleries.FetchUnit(asked)]
        kind = Kind.TEMPLATE_ROW if unit.shape is Shape.ROW else Kind.COLUMN
        old = [parse_ciphertext(part, made.bundle.profile, kind) for part in parts]
        dead = self._dead_before(unit) | ids
        places = tuple(place for place, one in enumerate(unit.ids) if one in dead)
        held = coefficients(self._placement(unit), places, made.bundle.profile.degree)
        new = redact(made.shares[:2], made.bundle, old, held)
        leaves = shown(self.caller, min(unit.live))
        statement = Amendment(
            gallery=NAME,
            pin=self.caller.lab.pin,
            generation=made.bundle.epoch,
            token=unit.token.hex(),
            enrolled_sha256=EnrolReceipt.parse(leaves.receipt.payload).unit_sha256,
            old_sha256=plain_sha256(old).hex(),
            new_sha256=plain_sha256(new).hex(),
            erased=write_places(places),
            count=self.erased.get(unit.token, 0) + 1,
            members=2,
            issued_at=utc_text(datetime.now(UTC)),
        )
        signed = [statement.sign(member.identity) for member in made.members[:2]]
        envelope = replace(signed[0], signatures=tuple(one.signatures[0] for one in signed))
        header = gallery_pb2.AmendUnitHeader(gallery=NAME, amendment=envelope_to_wire(envelope))
        messages = [gallery_pb2.AmendUnitRequest(header=header)]
        messages += [gallery_pb2.AmendUnitRequest(ciphertext=one.to_bytes()) for one in new]
        return Erasing(unit, ids, tuple(messages))

    def _send_amendment(self, change: Erasing) -> None:
        self._erasing = change
        try:
            self._auditor.galleries.AmendUnit(iter(change.messages))
        except FAILURES as error:
            self._erasing = replace(change, refused=_was_refused(error))
            raise
        self.erased[change.unit.token] = self.erased.get(change.unit.token, 0) + 1
        for one in change.ids:  # anybody may have its slot now
            del change.unit.slots[one]
        self._erasing = None

    @property
    def _council(self) -> CouncilLab:
        assert isinstance(self.lab, CouncilLab)
        return self.lab

    def _dead_before(self, unit: ModelUnit) -> set[bytes]:
        return {one for one in unit.ids if one not in unit.slots}

    def _placement(self, unit: ModelUnit) -> Placement:
        """Where the unit is, from the slots of those that are not erased."""
        step = unit.shape.step(self.lab.dimension)
        place, (block, slot) = next(
            (place, unit.slots[one]) for place, one in enumerate(unit.ids) if one in unit.slots
        )
        return Placement(block, slot - place * step, step, len(unit.ids))

    # --- what must be there -------------------------------------------------------------------

    def make_again(self) -> None:
        """Make whatever is open or refused again."""
        with answered():
            self._wait_for_leaving()
            if self._relabelling is not None:
                self._settle_labels(self._relabelling)
            if self._erasing is not None:
                self._settle_erasing(self._erasing)
        super().make_again()

    def _settle_labels(self, change: NewLabels) -> None:
        done = {one for one, label in change.labels.items() if self._shows(one, label)}
        if done and (change.refused or done != set(change.labels)):
            raise Wrong("labels are changed in part, or although that was refused")
        if done:
            self.labels |= change.labels
        self._send_labels(change)

    def _settle_erasing(self, change: Erasing) -> None:
        request = gallery_pb2.ListErasuresRequest(gallery=NAME, template_ids=sorted(change.ids))
        found = self.caller.galleries.ListErasures(request).erasures
        if change.refused and any(one.HasField("receipt") for one in found):
            raise Wrong("templates are erased although that was refused")
        self._send_amendment(change)

    def _shows(self, one: bytes, label: bytes) -> bool:
        (leaf,) = [leaf for leaf in shown(self.caller, one).leaves if leaf.template_id == one]
        return bool(leaf.label_sha256 == hashlib.sha256(label).digest())

    def check_labels(self) -> None:
        """Compare the labels of a unit with the model."""
        if self.units:
            unit = self._random.choice(list(self.units.values()))
            with answered():
                leaves = shown(self.caller, min(unit.live)).leaves
            told = {leaf.template_id: leaf.label_sha256 for leaf in leaves}
            for template in unit.templates:
                label = self.labels.get(template.template_id, template.sealed_label)
                if told[template.template_id] != hashlib.sha256(label).digest():
                    raise Wrong("a template has another label")


def _was_refused(error: UndersealError) -> bool:
    return "nothing was changed" in error.public
