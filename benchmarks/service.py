"""The whole service on loopback: separate processes, mutual TLS, synthetic templates.

    python -m benchmarks.service [--profile guarded] [--dim 128] [--templates 20000]
                                 [--searches 30] [--rounds 20] [--json]

Enrols templates in bulk, by default of the default model's dimension. First, searches for enrolled
ones, one after the other, whose releases are checked: medians in milliseconds, with the fastest and
the slowest. ``encrypt``; ``compare``, from encrypted probe to signed, sealed result as the client
sees it; ``open``, from there to the verified release.

Then what the service adds to its arithmetic: gRPC, TLS, parsing, catalogue, hashes, signatures. In
each round some searches are answered (``answer``; probes encrypted before, nothing opened), and the
arithmetic of as many is done in this process, with as many threads as the server has (``engine``).
``overhead`` is what answers take longer, as a share: the median of the rounds, since both meet the
same load in one. ``overhead_cpu``: the same of processor time, the client's not counted.

Exit code 1 when a release is not the one expected, or an answer not like the one before.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.bare_engine import BareEngine
from benchmarks.galleries import MODEL
from benchmarks.hardware import cores
from benchmarks.inputs import inputs
from benchmarks.processes import cpu_seconds
from benchmarks.record import Program
from benchmarks.timing import Spread, spread
from benchmarks.traffic.target import ACCEPTED, Target
from underseal_client.client import Client
from underseal_client.context import ClientContext
from underseal_client.demo.deployment import Deployment, Plan

if TYPE_CHECKING:
    from underseal_client.asking import Findings

GALLERY: Final = "service"
PURPOSE: Final = "benchmark"
CASE: Final = "BENCH-1"
IN_A_ROUND: Final = 8
"""Searches of a round that count; one before them warms up."""
PROBES: Final = 16
DEADLINE: Final = 60.0


@dataclass(frozen=True)
class Report:
    """What one run measured."""

    profile: str
    dimension: int
    templates: int
    searches: int
    correct: int
    encrypt_ms: Spread
    compare_ms: Spread
    open_ms: Spread
    answers: int
    accepted: int
    answer_ms: Spread
    engine_ms: Spread
    overhead: float
    server_cpu_ms: float
    engine_cpu_ms: float
    overhead_cpu: float


def main() -> int:
    """Run the benchmark; return the exit code."""
    program = Program("service", __doc__)
    program.parser.add_argument("--profile", default="guarded")
    program.parser.add_argument("--dim", type=int, default=128, help="dimension of the templates")
    program.parser.add_argument("--templates", type=int, default=20_000)
    program.parser.add_argument("--searches", type=int, default=30)
    program.parser.add_argument("--rounds", type=int, default=20)
    options = program.parse()
    if min(options.searches, options.rounds) < 1:
        program.parser.error("there must be a search and a round at least")
    models = {MODEL: "0.6"}
    plan = Plan(options.dim, models, (GALLERY,), profile=options.profile, purpose=PURPOSE)
    with tempfile.TemporaryDirectory() as folder, Deployment(Path(folder), plan) as deployment:
        deployment.make_keys()
        deployment.start()
        report = measure(deployment, options.templates, options.searches, options.rounds)
    wrong, refused = report.searches - report.correct, report.answers - report.accepted
    problems = [f"{wrong} releases are not those expected"] if wrong else []
    problems += [f"{refused} searches were not answered as before"] if refused else []
    return program.finish(options, report, problems)


def measure(deployment: Deployment, templates: int, searches: int, rounds: int) -> Report:
    """Enrol, search, and return the figures."""
    with closing(Target(deployment, templates, PROBES, DEADLINE, GALLERY)) as target:
        found = _searches(deployment, templates, searches)
        with closing(_engine(deployment, templates)) as engine:
            done = [_round(target, engine, number) for number in range(rounds + 1)]
    return _report(deployment.plan, templates, found[1:], done[1:])  # the first ones warm up


def _searches(deployment: Deployment, templates: int, count: int) -> list[tuple[Findings, bool]]:
    """Search for enrolled persons; right are those searches that release this one and no other."""
    vectors = inputs(templates, deployment.plan.dimension).templates
    found = []
    with Client(deployment.settings()) as client:
        for search in range(count + 1):
            wanted = search * (templates // (count + 1))
            one = client.search_template(
                vectors[wanted], gallery=GALLERY, purpose=PURPOSE, case=CASE
            )
            right = [match.label.name for match in one.found] == [f"person {wanted}"]
            found.append((one, right))
    return found


def _engine(deployment: Deployment, templates: int) -> BareEngine:
    probe = inputs(templates, deployment.plan.dimension).probe
    with closing(ClientContext(deployment.settings())) as context:
        row = context.encryptor.encrypt_probe(probe)
        return BareEngine(context.bundle, row, templates, cores())


@dataclass(frozen=True)
class _Round:
    """Milliseconds of each answer and each computation, and of processors for one of each."""

    answers: list[float]
    computations: list[float]
    accepted: int
    server_cpu: float
    engine_cpu: float


def _round(target: Target, engine: BareEngine, number: int) -> _Round:
    first = number * (IN_A_ROUND + 1)
    outcomes = [target.ask(first)]
    used = cpu_seconds(target.process)
    outcomes += [target.ask(first + i) for i in range(1, IN_A_ROUND + 1)]
    used = cpu_seconds(target.process) - used
    runs = [engine.run() for _ in outcomes][1:]
    return _Round(
        answers=[1000 * (one.ended - one.sent) for one in outcomes[1:]],
        computations=[passed for passed, _ in runs],
        accepted=sum(one.status == ACCEPTED for one in outcomes[1:]),
        server_cpu=1000 * used / IN_A_ROUND,
        engine_cpu=statistics.fmean(spent for _, spent in runs),
    )


def _report(
    plan: Plan, templates: int, found: list[tuple[Findings, bool]], rounds: list[_Round]
) -> Report:
    times = [one.timings for one, _ in found]
    answers = [time for one in rounds for time in one.answers]
    ratios = [
        statistics.median(one.answers) / statistics.median(one.computations) for one in rounds
    ]
    server_cpu = statistics.fmean(one.server_cpu for one in rounds)
    engine_cpu = statistics.fmean(one.engine_cpu for one in rounds)
    return Report(
        profile=plan.profile,
        dimension=plan.dimension,
        templates=templates,
        searches=len(found),
        correct=sum(right for _, right in found),
        encrypt_ms=spread([1000 * step.encrypt for step in times]),
        compare_ms=spread([1000 * step.compare for step in times]),
        open_ms=spread([1000 * step.open for step in times]),
        answers=len(answers),
        accepted=sum(one.accepted for one in rounds),
        answer_ms=spread(answers),
        engine_ms=spread([time for one in rounds for time in one.computations]),
        overhead=round(statistics.median(ratios) - 1, 3),
        server_cpu_ms=round(server_cpu, 1),
        engine_cpu_ms=round(engine_cpu, 1),
        overhead_cpu=round(server_cpu / engine_cpu - 1, 3),
    )


if __name__ == "__main__":
    sys.exit(main())
