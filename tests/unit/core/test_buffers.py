"""Memory of large arrays is used again, and never while something refers to it."""

from __future__ import annotations

import gc
import threading

import numpy as np

from underseal_core.ring.buffers import SMALLEST, Buffers
from underseal_core.ring.kernel import aligned


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_memory_that_nobody_refers_to_is_used_again() -> None:
    buffers = Buffers()
    first = buffers.take(SMALLEST)
    place = address(first)
    del first
    assert address(buffers.take(SMALLEST)) == place


def test_memory_is_lent_once_while_a_view_of_it_lives() -> None:
    buffers = Buffers()
    lent = buffers.take(SMALLEST)
    view = lent[5 : SMALLEST // 2].reshape(1, -1)[0, 3:]
    place = address(lent)
    view[:] = 7
    del lent
    gc.collect()
    other = buffers.take(SMALLEST)
    assert address(other) != place
    other[:] = 0
    assert (view == 7).all()
    del view
    assert address(buffers.take(SMALLEST)) == place


def test_what_waits_is_bounded_and_the_oldest_goes_first() -> None:
    buffers = Buffers(idle_words=3 * SMALLEST)
    lent = [buffers.take(SMALLEST + i) for i in range(5)]
    while lent:
        lent.pop(0)
    assert [len(one) for one in buffers._idle] == [SMALLEST + 3, SMALLEST + 4]
    del lent
    large = buffers.take(4 * SMALLEST)
    del large
    assert sum(len(one) for one in buffers._idle) <= 3 * SMALLEST


def test_threads_never_share_memory() -> None:
    buffers = Buffers()
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(100):
            mine = buffers.take(SMALLEST)
            mine[:: SMALLEST // 8] = number
            if not (mine[:: SMALLEST // 8] == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(buffers._idle) <= 4


def test_aligned_arrays_are_writable_and_on_a_cache_line() -> None:
    for words in (7, SMALLEST, 3 * SMALLEST + 1):
        array = aligned((words,))
        array[:] = 1
        assert address(array) % 64 == 0
        assert array.flags.c_contiguous
