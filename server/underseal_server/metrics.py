"""Counters for Prometheus: calls, durations, the queue. Names and outcomes only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from underseal_server.engine.search import BatchTimes

_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64)
_ALARMING: Final = ("DATA_LOSS", "INTERNAL", "UNAVAILABLE", "UNKNOWN")
"""Outcomes whose first one must be noticed: Prometheus sees an increase from 0 only, and no
increase in a series that begins with 1."""


class Metrics:
    """What the server counts.

    Parameters
    ----------
    methods
        Full names of the methods that are served; each is counted from 0 with every outcome that
        an alarm waits for.
    """

    def __init__(self, methods: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        calls = Counter(
            "underseal_calls", "Finished calls.", ("method", "code"), registry=self.registry
        )
        call_seconds = Histogram(
            "underseal_call_seconds",
            "Time from admission to the end of a call.",
            ("method",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._calls, self._call_seconds = cache(calls.labels), cache(call_seconds.labels)
        for method in methods:
            for code in _ALARMING:
                self._calls(method, code)
        self._search_seconds = Histogram(
            "underseal_search_seconds",
            "Time of a search by stage; score: of all that are scored together.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batch_size = Histogram(
            "underseal_search_batch_size",
            "Searches that were scored together.",
            buckets=_SIZES,
            registry=self.registry,
        )
        self._shed = Counter(
            "underseal_searches_shed",
            "Searches turned away before they began.",
            ("reason",),
            registry=self.registry,
        )
        self._waiting = Gauge(
            "underseal_searches_waiting", "Searches in the queue.", registry=self.registry
        )
        self._unread = Gauge(
            "underseal_results_unread_bytes",
            "Results that clients have yet to read.",
            registry=self.registry,
        )
        self._shards = Gauge(
            "underseal_shards", "Shards of the cluster that score.", registry=self.registry
        )

    def call(self, method: str, code: str, seconds: float) -> None:
        """Record a finished call."""
        self._calls(method, code).inc()
        self._call_seconds(method).observe(seconds)

    def batch(self, times: BatchTimes) -> None:
        """Record searches that were scored together."""
        for seconds in times.queued:
            self._search_seconds.labels("queued").observe(seconds)
        for seconds in times.expand:
            self._search_seconds.labels("expand").observe(seconds)
        if times.scored:
            self._search_seconds.labels("score").observe(times.score)
            self._batch_size.observe(times.scored)

    def shed(self, reason: str) -> None:
        """Record a search that was turned away: "queue" or "deadline"."""
        self._shed.labels(reason).inc()

    def watch(
        self, waiting: Callable[[], int], unread: Callable[[], int], shards: Callable[[], int]
    ) -> None:
        """Show the length of the queue, the bytes that clients have yet to read, and the shards."""
        self._waiting.set_function(waiting)
        self._unread.set_function(unread)
        self._shards.set_function(shards)

    def serve(self, listen: str) -> Callable[[], None]:
        """Serve ``/metrics`` over plain HTTP at ``host:port``; return what stops it.

        Raises
        ------
        InvalidInput
            The address cannot be listened on.
        """
        host, _, port = listen.rpartition(":")
        try:
            server, thread = start_http_server(int(port), host, self.registry)
        except OSError as error:
            raise InvalidInput(f"cannot listen on {listen} for metrics") from error

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop
