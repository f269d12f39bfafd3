"""A server's memory, processor time and queue while something runs."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from benchmarks.processes import cpu_seconds, resident_mib

if TYPE_CHECKING:
    from types import TracebackType

WAITING: Final = "underseal_searches_waiting"


@dataclass(frozen=True, slots=True)
class Sample:
    """``at``: seconds since the watch began. ``waiting``: searches in the server's queue."""

    at: float
    resident_mib: int
    server_cpu_seconds: float
    generator_cpu_seconds: float
    waiting: int


class Watch:
    """Takes a sample every ``interval`` seconds, in a thread, until it is left.

    Leaving it raises what kept the thread from sampling, unless another error is on its way.

    Parameters
    ----------
    process
        Of the server.
    metrics
        ``host:port`` where it serves its metrics.
    """

    def __init__(self, process: int, metrics: str, interval: float = 0.5) -> None:
        self._process = process
        self._url = f"http://{metrics}/metrics"
        self._interval = interval
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._begun = time.monotonic()
        self.samples: list[Sample] = []

    def __enter__(self) -> Self:
        self.samples.append(self.sample())
        self._sampling = self._pool.submit(self._run)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._pool.shutdown()
        if error is None:
            self._sampling.result()

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self.samples.append(self.sample())

    def sample(self) -> Sample:
        """Look now."""
        return Sample(
            at=round(time.monotonic() - self._begun, 2),
            resident_mib=resident_mib(self._process),
            server_cpu_seconds=cpu_seconds(self._process),
            generator_cpu_seconds=time.process_time(),
            waiting=self._waiting(),
        )

    def _waiting(self) -> int:
        with urllib.request.urlopen(self._url, timeout=10) as answer:  # noqa: S310  # ours, http
            text = answer.read().decode()
        (line,) = [one for one in text.splitlines() if one.startswith(f"{WAITING} ")]
        return int(float(line.split()[1]))
