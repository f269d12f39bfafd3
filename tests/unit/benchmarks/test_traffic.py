"""Arrivals and percentiles of the load test."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import wait
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from benchmarks.traffic.arrivals import closed_loop, open_loop
from benchmarks.traffic.steps import growth_mib_per_minute, percentiles, summarise
from benchmarks.traffic.target import ACCEPTED, EXPIRED, SHED, Outcome
from benchmarks.traffic.watch import WAITING, Sample, Watch


def sample(at: float, resident: int = 100, server: float = 0.0, waiting: int = 0) -> Sample:
    return Sample(at, resident, server, generator_cpu_seconds=at / 10, waiting=waiting)


def test_open_loop_sends_at_the_rate_whatever_becomes_of_the_answers() -> None:
    answer = threading.Event()

    def ask(number: int, due: float | None) -> Outcome:
        sent = time.monotonic()
        if number >= 40:
            answer.set()  # nobody was answered before: a closed loop would wait for ever
        assert answer.wait(30)
        assert due is not None
        return Outcome(due, sent, time.monotonic(), ACCEPTED)

    outcomes = open_loop(ask, rate=400, seconds=0.5, seed=1)
    assert 130 < len(outcomes) < 280
    assert all(o.due <= o.sent for o in outcomes)
    gaps = [later.due - earlier.due for earlier, later in itertools.pairwise(outcomes)]
    assert min(gaps) < 0.0005 < 0.006 < max(gaps)


def test_a_closed_loop_has_each_caller_wait_for_its_answer() -> None:
    together, most, lock = 0, 0, threading.Lock()

    def ask(number: int, due: float | None) -> Outcome:
        nonlocal together, most
        assert due is None
        sent = time.monotonic()
        with lock:
            together += 1
            most = max(most, together)
        threading.Event().wait(0.005)
        with lock:
            together -= 1
        return Outcome(sent, sent, time.monotonic(), ACCEPTED)

    outcomes = closed_loop(ask, callers=3, seconds=0.1)
    assert most <= 3
    assert len(outcomes) >= 3


def test_latency_counts_from_when_a_request_was_due() -> None:
    late = [Outcome(due=10.0, sent=12.0, ended=12.5, status=ACCEPTED)]
    step = summarise("open", 5.0, late, [sample(0), sample(5, server=1.0)])
    assert step.latency.p50 == pytest.approx(2500)
    assert step.lateness.p99 == pytest.approx(2000)
    assert step.server_cores == pytest.approx(0.2)
    assert step.server_cpu_ms_per_accepted == pytest.approx(1000)


def test_refused_and_expired_requests_count_apart() -> None:
    statuses = (ACCEPTED, ACCEPTED, SHED, SHED, SHED, EXPIRED, "UNAVAILABLE")
    outcomes = [Outcome(i, i, i + 0.1 * (i + 1), status) for i, status in enumerate(statuses)]
    step = summarise("open", 7.0, outcomes, [sample(0), sample(7, waiting=4)])
    assert (step.sent, step.accepted, step.shed, step.expired) == (7, 2, 3, 1)
    assert step.failed == {"UNAVAILABLE": 1}
    assert step.latency.highest == pytest.approx(200)
    assert step.refusal.highest == pytest.approx(500)
    assert step.waiting_highest == 4
    assert step.accepted_share == pytest.approx(2 / 7)


def test_percentiles_of_nothing_are_zeros() -> None:
    assert percentiles([]).p99 == 0
    found = percentiles([number / 1000 for number in range(1, 1001)])
    assert (round(found.p50), round(found.p99), round(found.highest)) == (500, 990, 1000)


def test_growth_is_the_slope_of_the_memory() -> None:
    rising = [sample(at, resident=100 + at) for at in range(0, 120, 5)]
    assert growth_mib_per_minute(rising) == pytest.approx(60)
    assert growth_mib_per_minute([sample(at) for at in range(10)]) == pytest.approx(0)
    assert growth_mib_per_minute([sample(1)]) == 0


class Metrics(BaseHTTPRequestHandler):
    """Shows one search in the queue, and once only."""

    def do_GET(self) -> None:
        self.server.server_close()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{WAITING} 1.0\n".encode())


@pytest.fixture
def shown_once() -> Iterator[str]:
    """Address of a server that answers one request."""
    with HTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        thread.join()


def test_a_watch_that_could_not_look_says_so_at_its_end(shown_once: str) -> None:
    with (
        pytest.raises(OSError, match="refused"),
        Watch(os.getpid(), shown_once, interval=0.01) as watch,
    ):
        assert watch.samples[0].waiting == 1
        wait([watch._sampling], timeout=30)


def test_an_error_while_a_watch_runs_is_not_hidden_by_its_own(shown_once: str) -> None:
    with (
        pytest.raises(KeyError, match="of the body"),
        Watch(os.getpid(), shown_once, interval=0.01) as watch,
    ):
        wait([watch._sampling], timeout=30)
        raise KeyError("of the body")
