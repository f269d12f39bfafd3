"""The whole service on loopback: separate processes, mutual TLS, synthetic templates.

    python -m benchmarks.service [--profile guarded] [--dim 128] [--templates 20000]
                                 [--searches 30] [--json]

Enrols templates in bulk, by default of the default model's dimension, then searches for enrolled
ones and checks every release. Times are medians over the warm searches, in milliseconds, with the
fastest and the slowest: ``compare`` is from encrypted probe to signed, sealed result as the client
sees it; ``open`` from there to the verified release. ``engine`` is the arithmetic of ``compare``
alone, in this process between the searches with as many threads as the server has, and
``overhead`` what the service adds to the fastest of them, as a share: gRPC, parsing, catalogue,
hashes, signatures. ``overhead_cpu`` is the same of the processor time of all that the
server does meanwhile, feeds of auditors included. Exit code 1 when a release is not the one
expected.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.bare_engine import BareEngine
from benchmarks.galleries import MODEL, make_gallery, records
from benchmarks.hardware import cores
from benchmarks.inputs import inputs
from benchmarks.processes import cpu_seconds
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
    engine_ms: Spread
    overhead: float
    server_cpu_ms: float
    engine_cpu_ms: float
    overhead_cpu: float
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
        row = context.encryptor.encrypt_probe(vectors[0])
        engine = BareEngine(context.bundle, row, templates, cores())
    with Client(settings) as client, closing(engine):
        begun = time.perf_counter()
        client.enroll_templates(GALLERY, records(vectors))
        enrol_seconds = time.perf_counter() - begun
        server = deployment.service("server").pid
        searched = []
        for search in range(searches + 1):  # the first one warms up
            wanted = search * (templates // (searches + 1))
            searched.append(_search(client, server, engine, vectors, wanted))
    return _report(plan, searched[1:], round(templates / enrol_seconds), templates)


@dataclass(frozen=True)
class _Search:
    """One search, and the engine alone right after it; milliseconds."""

    findings: Findings
    correct: bool
    server_cpu: float
    engine: float
    engine_cpu: float


def _search(
    client: Client,
    server: int,
    engine: BareEngine,
    vectors: npt.NDArray[np.float64],
    wanted: int,
) -> _Search:
    """Search for an enrolled person; it is correct when that one is released, and nobody else."""
    used = cpu_seconds(server)
    found = client.search_template(vectors[wanted], gallery=GALLERY, purpose=PURPOSE, case=CASE)
    used = 1000 * (cpu_seconds(server) - used)
    right = [match.label.name for match in found.found] == [f"person {wanted}"]
    return _Search(found, right, used, *engine.run())


def _report(plan: Plan, searched: list[_Search], rate: int, templates: int) -> Report:
    times = [one.findings.timings for one in searched]
    compare = spread([1000 * step.compare for step in times])
    alone = spread([one.engine for one in searched])
    server_cpu = statistics.fmean(one.server_cpu for one in searched)
    engine_cpu = statistics.fmean(one.engine_cpu for one in searched)
    return Report(
        profile=plan.profile,
        dimension=plan.dimension,
        templates=templates,
        searches=len(searched),
        correct=sum(one.correct for one in searched),
        enrolled_per_second=rate,
        encrypt_ms=spread([1000 * step.encrypt for step in times]),
        compare_ms=compare,
        engine_ms=alone,
        overhead=round(compare.low / alone.low - 1, 3),
        server_cpu_ms=round(server_cpu, 1),
        engine_cpu_ms=round(engine_cpu, 1),
        overhead_cpu=round(server_cpu / engine_cpu - 1, 3),
        open_ms=spread([1000 * step.open for step in times]),
    )


if __name__ == "__main__":
    sys.exit(main())
