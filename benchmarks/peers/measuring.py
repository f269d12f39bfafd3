"""Runs a system in processes of its own, so that none finds another's memory or threads.

A system without threads is measured on two cores as two processes, each with half of the gallery,
that start every run together: more than its own interface offers.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.accuracy import Real
from benchmarks.inputs import Inputs
from benchmarks.peers.system import About, Sizes, System

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier


SYSTEMS: Final = {
    "numpy": "plaintext.Plaintext",
    "swift": "underseal_engine.Swift",
    "compact": "underseal_engine.Compact",
    "guarded": "underseal_engine.Guarded",
    "seal": "seal_columns.SealColumns",
    "tenseal": "tenseal_dot.TensealDot",
    "lightphe": "lightphe_dot.LightpheDot",
}
"""Modules and classes, fastest first."""
HELD_BACK: Final = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Settings that keep numpy from the processor's best kernels."""
START_SECONDS: Final = 3600.0

Span = tuple[float, float, float]
"""Begin, prepared and end of a run, by ``time.monotonic``, which all processes share."""

_barrier: Barrier | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """With some threads or processes: of a comparison, and of a query whatever the gallery."""

    threads: int
    us_per_comparison: float
    fixed_ms: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One system. ``templates``: how many it was measured with."""

    about: About
    version: str
    templates: int
    costs: tuple[Cost, ...]
    bytes_per_template: float
    query_bytes: int
    key_bytes: int
    max_error: float

    def seconds(self, templates: float, threads: int) -> float:
        """Return how long a query takes in a gallery of so many."""
        (cost,) = [cost for cost in self.costs if cost.threads == threads]
        return cost.fixed_ms / 1e3 + cost.us_per_comparison / 1e6 * _whole(templates, self.about)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one process did, by number of threads."""

    spans: dict[int, list[Span]]
    max_error: float
    sizes: Sizes


def _whole(templates: float, about: About) -> int:
    """Return how many comparisons are made for so many templates."""
    return math.ceil(templates / about.together) * about.together


def system_named(name: str) -> type[System]:
    """Return a system's class; its package is imported here."""
    module, _, attribute = SYSTEMS[name].partition(".")
    found: type[System] = getattr(import_module(f"benchmarks.peers.{module}"), attribute)
    return found


def measure(name: str, given: Inputs, threads: Sequence[int]) -> Measured:
    """Measure a system with the first templates of ``given``, as many as it takes at most.

    Raises
    ------
    Exception
        Whatever the system raised.
    """
    about = system_named(name).about
    count = min(about.most, len(given.templates))
    some = given.first(count)
    if about.threaded:
        parts = _side_by_side(name, [some.templates], some.probe, threads)
        made, spans = _whole(count, about), parts[0].spans
        costs = [_cost(several, [spans[several]], made) for several in threads]
    else:
        costs, parts = [], []
        for several in threads:
            shares = np.array_split(some.templates, min(several, count))
            parts = _side_by_side(name, shares, some.probe, [1])
            made = sum(_whole(len(share), about) for share in shares)
            costs.append(_cost(several, [part.spans[1] for part in parts], made))
    sizes = parts[0].sizes
    return Measured(
        about=about,
        version=version(about.package),
        templates=count,
        costs=tuple(costs),
        bytes_per_template=sizes.template,
        query_bytes=sizes.query,
        key_bytes=sizes.keys,
        max_error=max(part.max_error for part in parts),
    )


def _side_by_side(
    name: str, shares: Sequence[Real], probe: Real, threads: Sequence[int]
) -> list[_Part]:
    """Measure each share of a gallery in a process of its own, all at the same time."""
    tasks = [(name, Inputs(share, probe), threads) for share in shares]
    with _processes(len(shares)) as pool:
        return list(pool.map(_run, tasks))


def _cost(threads: int, spans: list[list[Span]], comparisons: int) -> Cost:
    """Combine processes that ran side by side: a run lasts from the first begin to the last end."""
    fixed, comparing = [], []
    for together in zip(*spans, strict=True):
        begun, prepared, ended = (np.array(times) for times in zip(*together, strict=True))
        fixed.append(float((prepared - begun).max()))
        comparing.append(float(ended.max() - prepared.min()))
    return Cost(threads, min(comparing) * 1e6 / comparisons, min(fixed) * 1e3)


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    held = {name: os.environ.pop(name) for name in HELD_BACK if name in os.environ}
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(
            count, context, initializer=_begin, initargs=(context.Barrier(count),)
        ) as pool:
            yield pool
    finally:
        os.environ.update(held)


def _begin(barrier: Barrier) -> None:
    global _barrier  # a process of the pool gets it this way only
    _barrier = barrier


def _run(task: tuple[str, Inputs, Sequence[int]]) -> _Part:
    name, given, threads = task
    system = system_named(name)(given)
    query, answer = system.query(), None
    spans: dict[int, list[Span]] = {several: [] for several in threads}
    for several, _ in itertools.product(threads, range(system.about.runs)):
        assert _barrier is not None  # noqa: S101  # the initializer has run
        _barrier.wait(START_SECONDS)
        begun = time.monotonic()
        prepared = system.prepare(query, several)
        between = time.monotonic()
        answer = system.compare(prepared, several)
        spans[several].append((begun, between, time.monotonic()))
    error = np.abs(system.open(answer) - given.templates @ given.probe).max()
    return _Part(spans, float(error), system.sizes())
