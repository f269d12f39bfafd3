"""Threads for pieces of work."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from underseal_core.errors import InvalidInput
from underseal_core.scheme.workers import Workers


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_piece_is_done_once_by_no_more_threads_than_asked_for(threads: int) -> None:
    done: list[tuple[int, int]] = []
    with closing(Workers(threads)) as workers:
        for _ in range(50):
            workers.run(lambda piece: done.append((piece, threading.get_ident())), range(9))
        workers.run(lambda piece: done.append((piece, 0)), range(0))
    assert sorted(piece for piece, _ in done) == sorted([*range(9)] * 50)
    assert len({thread for _, thread in done}) <= threads


def test_pieces_run_side_by_side() -> None:
    meeting = threading.Barrier(3, timeout=20)  # broken unless all three are there at once

    def meet(_: int) -> None:
        meeting.wait()

    with closing(Workers(3)) as workers:
        workers.run(meet, range(3))
    assert not meeting.broken


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_error_is_raised_after_all_pieces(threads: int) -> None:
    done: list[int] = []

    def work(piece: int) -> None:
        if piece in (1, 3):
            time.sleep(0.05 * (3 - piece))  # the later one ends first
            raise InvalidInput(f"not {piece}")
        done.append(piece)

    with closing(Workers(threads)) as workers:
        with pytest.raises(InvalidInput, match="not 1"):
            workers.run(work, range(5))
        assert sorted(done) == [0, 2, 4]
        workers.run(done.append, [7])
    assert done[-1] == 7


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_keeps_nothing_in_memory(threads: int) -> None:
    class Held:
        """Stands for an array."""

    def fail(workers: Workers) -> weakref.ref[Held]:
        held = Held()

        def work(_: int) -> None:
            assert held
            raise InvalidInput("no")

        with pytest.raises(InvalidInput):
            workers.run(work, range(3))
        return weakref.ref(held)

    gc.disable()
    try:
        with closing(Workers(threads)) as workers:
            left = fail(workers)
            workers.run(lambda _: None, range(3))  # a pool's thread holds what it did last
            assert left() is None
    finally:
        gc.enable()


def test_callers_share_the_threads() -> None:
    totals: list[int] = []

    def call(workers: Workers) -> None:
        for _ in range(100):
            done: list[int] = []
            workers.run(done.append, range(5))
            totals.append(sum(done))

    with closing(Workers(2)) as workers, ThreadPoolExecutor(4) as callers:
        for future in [callers.submit(call, workers) for _ in range(4)]:
            future.result(60)
    assert totals == [10] * 400
