from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underseal_core.errors import Damaged
from underseal_core.gallery.slots import SlotMap
from underseal_core.gallery.unit import Placement

DEGREE, DIMENSION = 64, 8


def test_rows_interleave_and_columns_follow() -> None:
    slots = SlotMap(DEGREE)
    taken = []
    for step, count in ((8, 8), (8, 3), (1, 5), (1, 40), (8, 1)):
        placement = slots.find(step, count)
        slots.take(placement)
        taken.append((placement.block, placement.first_slot))
    assert taken == [(0, 0), (0, 1), (0, 2), (1, 0), (0, 7)]


def test_freed_slots_are_used_before_a_new_block() -> None:
    slots = SlotMap(DEGREE)
    full = slots.find(1, DEGREE)
    slots.take(full)
    assert slots.find(1, 1).block == 1
    slots.free(full)
    assert slots.find(1, DEGREE) == full


def test_a_slot_is_never_taken_twice() -> None:
    slots = SlotMap(DEGREE)
    slots.take(Placement(0, 5, 1, 3))
    for clash in (Placement(0, 7, 1, 1), Placement(0, 6, 8, 2), Placement(0, 62, 1, 3)):
        with pytest.raises(Damaged):
            slots.take(clash)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just(DIMENSION), st.integers(1, DEGREE // DIMENSION)),
            st.tuples(st.just(1), st.integers(1, DEGREE)),
            st.integers(0, 30),  # free the n-th of those taken
        ),
        max_size=40,
    )
)
def test_placements_are_disjoint_inside_and_as_early_as_possible(
    steps: list[tuple[int, int] | int],
) -> None:
    slots = SlotMap(DEGREE)
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
        assert all(0 <= slot < DEGREE for _, slot in mine)
        assert placement == _first(used, *step)
        slots.take(placement)
        taken.append(placement)


def _first(used: set[tuple[int, int]], step: int, count: int) -> Placement:
    """By trying everything."""
    for block in range(50):
        for first in range(DEGREE - (count - 1) * step):
            placement = Placement(block, first, step, count)
            if not any((block, slot) in used for slot in placement.slots()):
                return placement
    raise AssertionError
