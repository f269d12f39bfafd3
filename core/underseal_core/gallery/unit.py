"""What was enrolled together, and where it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from underseal_core.scheme.profiles import Profile

Mask = npt.NDArray[np.bool_]

CANARIES: Final = 64
"""At least this many slots at the end of every block stay empty."""
_NAME_DOMAIN: Final = b"underseal/v1/redacted-unit\x00"


def usable_slots(degree: int, dimension: int) -> int:
    """Slots of a block that templates may take: the last ones stay empty, as canaries.

    Whoever hides a multiple of the secret key in a template does not know the key, so it shows in
    coefficients that must be zero. ``dimension`` of them, at least: then the last ``dimension``
    coefficients of every row are empty, and so is the last slot that any row could reach.
    """
    return degree - max(CANARIES, dimension)


class Shape(StrEnum):
    """How a unit was encrypted."""

    ROW = "row"
    COLUMNS = "columns"

    def ciphertexts(self, dimension: int) -> int:
        """Number of ciphertexts of a unit; ``dimension`` is the padded one."""
        return 1 if self is Shape.ROW else dimension

    def step(self, dimension: int) -> int:
        """Distance between the slots of neighbouring templates."""
        return dimension if self is Shape.ROW else 1

    def capacity(self, profile: Profile, dimension: int) -> int:
        """Most templates that one unit holds."""
        return usable_slots(profile.degree, dimension) // self.step(dimension)


@dataclass(frozen=True, slots=True)
class Placement:
    """Template ``r`` of ``count`` is in slot ``first_slot + r * step`` of ``block``."""

    block: int
    first_slot: int
    step: int
    count: int

    def slots(self) -> range:
        """All slots, in order."""
        return range(self.first_slot, self.first_slot + self.count * self.step, self.step)


@dataclass(frozen=True, slots=True)
class Redaction:
    """What k auditors took out of a unit (docs/explanation/keys.md, "Redaction").

    ``erased``: places in the unit, from 0, ascending. ``count``: how often it was redacted.
    ``encryptions``: how many fresh ones the last time added, k.
    """

    erased: tuple[int, ...]
    count: int
    encryptions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit in its place.

    ``token``: 16 bytes, names it within its gallery for good. ``sha256``: over the plain form of
    its ciphertexts, one after another, as they were sent or as they were redacted last.
    ``redaction``: None if never.
    """

    token: bytes
    shape: Shape
    placement: Placement
    sha256: bytes
    redaction: Redaction | None = None

    @property
    def name(self) -> bytes:
        """16 bytes that name its ciphertexts: the token until others take their place."""
        return self.token if self.redaction is None else redacted_name(self.token, self.redaction)

    @property
    def erased(self) -> tuple[int, ...]:
        """The places that were erased."""
        return () if self.redaction is None else self.redaction.erased

    def slots(self) -> list[int]:
        """Slots of its block that it takes: all but the erased ones."""
        gone = set(self.erased)
        return [slot for place, slot in enumerate(self.placement.slots()) if place not in gone]

    def held(self, degree: int) -> Mask:
        """Return which coefficients of its ciphertexts hold something, ``(degree,)``."""
        return coefficients(self.placement, self.erased, degree)


def redacted_name(token: bytes, redaction: Redaction) -> bytes:
    """Return the name of a unit's ciphertexts after a redaction."""
    return hashlib.sha256(_NAME_DOMAIN + token + redaction.count.to_bytes(8, "big")).digest()[:16]


def before(redaction: Redaction) -> Redaction | None:
    """Return what named a unit's ciphertexts before a redaction; its places are not known."""
    earlier = redaction.count - 1
    return Redaction((), earlier, redaction.encryptions) if earlier else None


def coefficients(placement: Placement, erased: tuple[int, ...], degree: int) -> Mask:
    """Return which coefficients of a unit's ciphertexts hold templates, ``(degree,)``.

    The ``r``-th template takes coefficient ``r`` of every column, or the ``r``-th ``step`` ones of
    a row.
    """
    held = np.zeros(degree, dtype=np.bool_)
    held[: placement.count * placement.step] = True
    for place in erased:
        held[place * placement.step : (place + 1) * placement.step] = False
    return held
