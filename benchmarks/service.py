"""The whole service on loopback: separate processes, mutual TLS, synthetic templates.

    python -m benchmarks.service [--profile guarded] [--dim 128] [--templates 20000]
                                 [--searches 30] [--json]

Enrols templates in bulk, by default of the default model's dimension, then searches for enrolled
ones and checks every release. Times are medians over the warm searches, in milliseconds, with the
fastest and the slowest: ``compare`` is from encrypted probe to signed, sealed result as the client
sees it; ``open`` from there to the verified release.
Exit code 1 when a release is not the one expected.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.galleries import MODEL, make_gallery, records
from benchmarks.inputs import inputs
from benchmarks.record import Program
from benchmarks.timing import Spread, spread
from underseal_client.client import Client
from underseal_client.context import ClientContext
from underseal_client.demo.deployment import Deployment, Plan

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from underseal_client.asking import Findings

GALLERY: Final = "service"
PURPOSE: Final = "benchmark"
CASE: Final = "BENCH-1"


@dataclass(frozen=True)
class Report:
    """What one run measured."""

    profile: str
    dimension: int
    templates: int
    searches: int
    correct: int
    enrolled_per_second: int
    encrypt_ms: Spread
    compare_ms: Spread
    open_ms: Spread


def main() -> int:
    """Run the benchmark; return the exit code."""
    program = Program("service", __doc__)
    program.parser.add_argument("--profile", default="guarded")
    program.parser.add_argument("--dim", type=int, default=128, help="dimension of the templates")
    program.parser.add_argument("--templates", type=int, default=20_000)
    program.parser.add_argument("--searches", type=int, default=30)
    options = program.parse()
    models = {MODEL: "0.6"}
    plan = Plan(options.dim, models, (GALLERY,), profile=options.profile, purpose=PURPOSE)
    with tempfile.TemporaryDirectory() as folder, Deployment(Path(folder), plan) as deployment:
        deployment.make_keys()
        deployment.start()
        report = measure(deployment, options.templates, options.searches)
    wrong = report.searches - report.correct
    problems = [f"{wrong} releases are not those expected"] if wrong else []
    return program.finish(options, report, problems)


def measure(deployment: Deployment, templates: int, searches: int) -> Report:
    """Enrol, search, and return the figures."""
    plan, settings = deployment.plan, deployment.settings()
    vectors = inputs(templates, plan.dimension).templates
    with closing(ClientContext(settings)) as context:
        make_gallery(context, GALLERY)
    with Client(settings) as client:
        begun = time.perf_counter()
        client.enroll_templates(GALLERY, records(vectors))
        enrol_seconds = time.perf_counter() - begun
        found, correct = _search(client, vectors, searches)
    times = [one.timings for one in found]
    return Report(
        profile=plan.profile,
        dimension=plan.dimension,
        templates=templates,
        searches=searches,
        correct=correct,
        enrolled_per_second=round(templates / enrol_seconds),
        encrypt_ms=spread([1000 * one.encrypt for one in times]),
        compare_ms=spread([1000 * one.compare for one in times]),
        open_ms=spread([1000 * one.open for one in times]),
    )


def _search(
    client: Client, vectors: npt.NDArray[np.float64], searches: int
) -> tuple[list[Findings], int]:
    """Search once to warm up, then for different people; return how many were found."""
    found: list[Findings] = []
    correct = 0
    for search in range(searches + 1):
        wanted = search * (len(vectors) // (searches + 1))
        found.append(
            client.search_template(vectors[wanted], gallery=GALLERY, purpose=PURPOSE, case=CASE)
        )
        names = [match.label.name for match in found[-1].found]
        correct += search > 0 and names == [f"person {wanted}"]
    return found[1:], correct


if __name__ == "__main__":
    sys.exit(main())
