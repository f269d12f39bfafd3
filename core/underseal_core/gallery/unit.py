"""What was enrolled together, and where it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from underseal_core.scheme.profiles import Profile

CANARIES: Final = 64
"""At least this many slots at the end of every block stay empty."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A unit in its place.

    ``token``: 16 bytes, names it within its gallery for good. ``sha256``: over its ciphertexts as
    they were sent, one after another.
    """

    token: bytes
    shape: Shape
    placement: Placement
    sha256: bytes
