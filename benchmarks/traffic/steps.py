"""What one step of a load test showed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.traffic.target import ACCEPTED, EXPIRED, SHED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.traffic.target import Outcome
    from benchmarks.traffic.watch import Sample


@dataclass(frozen=True, slots=True)
class Percentiles:
    """In milliseconds; of nothing: zeros."""

    p50: float
    p90: float
    p99: float
    highest: float


@dataclass(frozen=True, slots=True)
class Step:
    """Some seconds at one rate, or with so many callers that wait for their answers.

    Parameters
    ----------
    name
        "closed, 4 callers", "open, 0.8 x".
    offered_per_second
        Of a closed loop: what was sent.
    latency
        Of accepted requests, from when they were due to the last byte of the answer.
    refusal
        How long it took to be turned away.
    lateness
        Of the generator: how long after they were due requests were sent.
    server_cores, generator_cores
        Processor seconds by second.
    """

    name: str
    seconds: float
    offered_per_second: float
    completed_per_second: float
    sent: int
    accepted: int
    shed: int
    expired: int
    failed: dict[str, int]
    latency: Percentiles
    refusal: Percentiles
    lateness: Percentiles
    server_cores: float
    generator_cores: float
    server_cpu_ms_per_accepted: float
    resident_mib_highest: int
    waiting_highest: int

    @property
    def accepted_share(self) -> float:
        """Of those that were sent."""
        return self.accepted / max(1, self.sent)


def summarise(
    name: str, seconds: float, outcomes: Sequence[Outcome], samples: Sequence[Sample]
) -> Step:
    """Return the figures of a step that was to last ``seconds``; ``samples``: first to last."""
    statuses = Counter(outcome.status for outcome in outcomes)
    accepted = [o for o in outcomes if o.status == ACCEPTED]
    first, last = samples[0], samples[-1]
    elapsed = max(last.at - first.at, 1e-9)
    server = last.server_cpu_seconds - first.server_cpu_seconds
    known = {ACCEPTED, SHED, EXPIRED}
    return Step(
        name=name,
        seconds=round(elapsed, 1),
        offered_per_second=round(len(outcomes) / seconds, 2),
        completed_per_second=round(len(accepted) / _span(outcomes, seconds), 2),
        sent=len(outcomes),
        accepted=len(accepted),
        shed=statuses[SHED],
        expired=statuses[EXPIRED],
        failed={status: count for status, count in statuses.items() if status not in known},
        latency=percentiles([o.ended - o.due for o in accepted]),
        refusal=percentiles([o.ended - o.sent for o in outcomes if o.status == SHED]),
        lateness=percentiles([o.sent - o.due for o in outcomes]),
        server_cores=round(server / elapsed, 2),
        generator_cores=round(
            (last.generator_cpu_seconds - first.generator_cpu_seconds) / elapsed, 2
        ),
        server_cpu_ms_per_accepted=round(1000 * server / max(1, len(accepted)), 1),
        resident_mib_highest=max(sample.resident_mib for sample in samples),
        waiting_highest=max(sample.waiting for sample in samples),
    )


def percentiles(seconds: Sequence[float]) -> Percentiles:
    """Summarise times given in seconds."""
    if not seconds:
        return Percentiles(0, 0, 0, 0)
    found = np.percentile(np.array(seconds) * 1000, (50, 90, 99, 100))
    return Percentiles(*(round(float(value), 1) for value in found))


def growth_mib_per_minute(samples: Sequence[Sample]) -> float:
    """Slope of the memory held, by least squares."""
    times = np.array([sample.at for sample in samples]) / 60
    if len(times) < 2:
        return 0.0
    slope = np.polyfit(times, [sample.resident_mib for sample in samples], 1)[0]
    return round(float(slope), 2)


def _span(outcomes: Sequence[Outcome], seconds: float) -> float:
    """Seconds from the first request due to the last answer; ``seconds`` at least."""
    if not outcomes:
        return seconds
    begun, ended = min(o.due for o in outcomes), max(o.ended for o in outcomes)
    return max(seconds, ended - begun)
