from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underseal_core.errors import Damaged
from underseal_core.gallery.slots import SlotMap
from underseal_core.gallery.unit import Placement, Shape, usable_slots
from underseal_core.scheme.profiles import GUARDED, SWIFT, Profile

DEGREE, USABLE, DIMENSION = 72, 64, 8


def test_rows_interleave_and_columns_follow() -> None:
    slots = SlotMap(DEGREE, USABLE)
    taken = []
    for step, count in ((8, 8), (8, 3), (1, 5), (1, 40), (8, 1)):
        placement = slots.find(step, count)
        slots.take(placement)
        taken.append((placement.block, placement.first_slot))
    assert taken == [(0, 0), (0, 1), (0, 2), (1, 0), (0, 7)]


def test_freed_slots_are_used_before_a_new_block() -> None:
    slots = SlotMap(DEGREE, USABLE)
    full = slots.find(1, USABLE)
    slots.take(full)
    assert slots.find(1, 1).block == 1
    slots.free(full)
    assert slots.find(1, USABLE) == full


def test_a_slot_is_never_taken_twice() -> None:
    slots = SlotMap(DEGREE, USABLE)
    slots.take(Placement(0, 5, 1, 3))
    for clash in (Placement(0, 7, 1, 1), Placement(0, 6, 8, 2), Placement(0, 71, 1, 3)):
        with pytest.raises(Damaged):
            slots.take(clash)


@pytest.mark.parametrize("profile", [GUARDED, SWIFT])
@pytest.mark.parametrize("dimension", [2, 64, 128, 1024])
@pytest.mark.parametrize("shape", list(Shape))
def test_no_unit_reaches_the_canaries(profile: Profile, dimension: int, shape: Shape) -> None:
    degree, step = profile.degree, shape.step(dimension)
    canaries = max(64, dimension)
    slots = SlotMap(degree, usable_slots(degree, dimension))
    largest = slots.find(step, shape.capacity(profile, dimension))
    # A row's components run on from its slot, so this holds for its plaintext as well.
    assert largest.slots()[-1] + step == degree - canaries
    for slot in (degree - canaries, degree - 1):
        with pytest.raises(Damaged):
            slots.take(Placement(0, slot, 1, 1))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just(DIMENSION), st.integers(1, USABLE // DIMENSION)),
            st.tuples(st.just(1), st.integers(1, USABLE)),
            st.integers(0, 30),  # free the n-th of those taken
        ),
        max_size=40,
    )
)
def test_placements_are_disjoint_inside_and_as_early_as_possible(
    steps: list[tuple[int, int] | int],
) -> None:
    slots = SlotMap(DEGREE, USABLE)
    taken: list[Placement] = []
    for step in steps:
        if isinstance(step, int):
            if taken:
                slots.free(taken.pop(step % len(taken)))
            continue
        used = {(p.block, slot) for p in taken for slot in p.slots()}
        placement = slots.find(*step)
        mine = {(placement.block, slot) for slot in placement.slots()}
        assert not mine & used
        assert all(0 <= slot < USABLE for _, slot in mine)
        assert placement == _first(used, *step)
        slots.take(placement)
        taken.append(placement)


def _first(used: set[tuple[int, int]], step: int, count: int) -> Placement:
    """By trying everything."""
    for block in range(50):
        for first in range(USABLE - (count - 1) * step):
            placement = Placement(block, first, step, count)
            if not any((block, slot) in used for slot in placement.slots()):
                return placement
    raise AssertionError
