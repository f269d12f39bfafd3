"""When requests are sent: by callers that wait for answers, or whether or not answers come."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.traffic.target import SHED
from underseal_core.rpc.listener import MAX_CALLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.traffic.target import Outcome

    Ask = Callable[[int, float | None], Outcome]

PAUSE_SECONDS: Final = 0.2
"""A caller that was turned away waits."""


def closed_loop(ask: Ask, callers: int, seconds: float) -> list[Outcome]:
    """Have ``callers`` ask one request after the other, each waiting for its answer."""
    end = time.monotonic() + seconds
    numbers, lock = itertools.count(), threading.Lock()

    def call() -> list[Outcome]:
        found = []
        while time.monotonic() < end:
            with lock:
                number = next(numbers)
            found.append(ask(number, None))
            if found[-1].status == SHED:
                time.sleep(PAUSE_SECONDS)
        return found

    with ThreadPoolExecutor(callers) as pool:
        running = [pool.submit(call) for _ in range(callers)]
        return [outcome for one in running for outcome in one.result()]


def open_loop(ask: Ask, rate: float, seconds: float, seed: int) -> list[Outcome]:
    """Send requests at random times, ``rate`` a second in the mean, whatever becomes of others.

    Arrivals are a Poisson process, drawn before the first one is sent. Latency counts from the
    drawn time: a request that is sent late, because the generator or the server was busy, has
    waited all the same (no coordinated omission).
    """
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1 / rate, size=max(1, int(2 * rate * seconds) + 20))
    times = np.cumsum(gaps)
    start = time.monotonic()
    with ThreadPoolExecutor(MAX_CALLS) as pool:  # a server takes no more of them at a time
        running = []
        for number, after in enumerate(times[times < seconds]):
            due = start + float(after)
            time.sleep(max(0.0, due - time.monotonic()))
            running.append(pool.submit(ask, number, due))
        return [one.result() for one in running]
