"""Which shard has which block."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from underseal_server.cluster.assignment import Assignment
from underseal_server.cluster.checkpoints import Piece

MIB = 1 << 20


def pieces(count: int, root: str = "", place: str = "blocks/1/a", size: int = MIB) -> list[Piece]:
    return [Piece("epoch", place, number, root, size) for number in range(count)]


def settle(assignment: Assignment[str]) -> int:
    """Carry out every move; return how many."""
    count = 0
    while (step := assignment.next_move()) is not None:
        assignment.move(*step)
        count += 1
    return count


def counts(assignment: Assignment[str], blocks: list[Piece]) -> dict[str, int]:
    return {name: len(some) for name, some in assignment.place(blocks).items()}


def test_blocks_are_spread_by_memory_and_stay_where_they_are() -> None:
    assignment = Assignment[str]()
    assignment.join("large", 3 * 100 * MIB)
    assignment.join("small", 100 * MIB)
    first = assignment.place(pieces(40))
    assert {name: len(some) for name, some in first.items()} == {"large": 30, "small": 10}
    assert assignment.next_move() is None
    again = assignment.place(pieces(40, root="changed"))
    numbers = {name: [piece.number for piece in some] for name, some in first.items()}
    assert {name: [piece.number for piece in some] for name, some in again.items()} == numbers
    assert assignment.has("large", again["large"][0])
    assert not assignment.has("large", first["large"][0])


def test_a_shard_that_joins_gets_its_part_with_no_more_moves_than_needed() -> None:
    assignment = Assignment[str]()
    assignment.join("a", 100 * MIB)
    assignment.join("b", 100 * MIB)
    assignment.place(pieces(30))
    assignment.join("c", 100 * MIB)
    assert settle(assignment) == 10
    assert counts(assignment, pieces(30)) == {"a": 10, "b": 10, "c": 10}


def test_blocks_of_a_shard_that_left_go_to_the_others() -> None:
    assignment = Assignment[str]()
    assignment.join("a", 100 * MIB)
    assignment.join("b", 100 * MIB)
    assignment.place(pieces(8))
    assignment.leave("a")
    assert counts(assignment, pieces(8)) == {"b": 8}


def test_what_a_shard_held_before_stays_there_unless_another_has_it() -> None:
    """A server that was restarted asks the shards."""
    assignment = Assignment[str]()
    one, other, third = pieces(3)
    assert assignment.join("a", 100 * MIB, [one, other]) == []
    assert assignment.join("b", 100 * MIB, [other, third]) == [other]
    assert counts(assignment, [one, other, third]) == {"a": 2, "b": 1}


def test_forgotten_blocks_take_no_room() -> None:
    assignment = Assignment[str]()
    assignment.join("a", 100 * MIB)
    assignment.place([*pieces(4), *pieces(4, place="blocks/2/a")])
    assignment.forget("blocks/1/a", {0, 1})
    assignment.forget("blocks/2/a", None)
    assignment.join("b", 100 * MIB)
    assert settle(assignment) == 1


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=6),
    st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=12),
    st.integers(0, 40),
)
def test_every_block_has_one_shard_whoever_comes_and_goes(
    capacities: list[int], changes: list[tuple[bool, int]], count: int
) -> None:
    assignment = Assignment[str]()
    there = {str(index): capacity * MIB for index, capacity in enumerate(capacities)}
    for name, capacity in there.items():
        assignment.join(name, capacity)
    for joins, number in changes:
        name = f"s{number}"
        if joins and name not in there:
            there[name] = (number + 1) * MIB
            assignment.join(name, there[name])
        elif len(there) > 1 and there.pop(name, None) is not None:
            assignment.leave(name)
        placed = assignment.place(pieces(count))
        settle(assignment)
        assert placed.keys() <= there.keys()
        assert sorted(p.number for some in placed.values() for p in some) == list(range(count))
