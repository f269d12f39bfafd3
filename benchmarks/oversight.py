"""What a release costs the guardians: k of n processes that compute every search again.

    python -m benchmarks.oversight [--profile guarded] [--templates 25000] [--guardians 3]
                                   [--threshold 2] [--searches 10] [--json]

A ceremony between processes, a server, a registrar and the guardians on loopback with mutual TLS;
templates enrolled in bulk. ``guardian_cpu`` is processor time of the guardians'
processes per release, all of their threads, re-execution of every block included: of the busiest
one, and of all together. ``open`` is from the sealed result to the verified release as the client
sees it. ``replica`` is from the end of the enrolment to the first release. Medians, with the
fastest and the slowest. Exit code 1 when a release is not the one expected, or when the guardians
together take more than 1.5 s for one.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.galleries import MODEL, make_gallery, records
from benchmarks.inputs import inputs
from benchmarks.processes import cpu_seconds
from benchmarks.record import Program
from benchmarks.timing import Spread, spread
from underseal_client.asking import Findings
from underseal_client.client import Client
from underseal_client.context import ClientContext
from underseal_client.demo.deployment import Deployment, Plan
from underseal_core.errors import Busy

GALLERY: Final = "oversight"
PURPOSE: Final = "benchmark"
LIMIT_MS: Final = 1500.0
REPLICA_SECONDS: Final = 300.0


@dataclass(frozen=True)
class Report:
    """What one run measured."""

    profile: str
    dimension: int
    templates: int
    guardians: int
    threshold: int
    searches: int
    correct: int
    replica_seconds: float
    guardian_cpu_ms_busiest: Spread
    guardian_cpu_ms_together: Spread
    open_ms: Spread

    def problems(self) -> list[str]:
        """Return what is not as it must be."""
        found = []
        if self.correct != self.searches:
            found.append(f"{self.searches - self.correct} releases are not those expected")
        if self.guardian_cpu_ms_together.median > LIMIT_MS:
            found.append(f"the guardians take more than {LIMIT_MS:.0f} ms together")
        return found


def main() -> int:
    """Run the benchmark; return the exit code."""
    program = Program("oversight", __doc__)
    parser = program.parser
    parser.add_argument("--profile", default="guarded")
    parser.add_argument("--dim", type=int, default=128, help="dimension of the templates")
    parser.add_argument("--templates", type=int, default=25_000)
    parser.add_argument("--guardians", type=int, default=3)
    parser.add_argument("--threshold", type=int, default=2)
    parser.add_argument("--searches", type=int, default=10)
    options = program.parse()
    plan = Plan(
        options.dim,
        {MODEL: "0.6"},
        (GALLERY,),
        profile=options.profile,
        purpose=PURPOSE,
        guardians=options.guardians,
        threshold=options.threshold,
    )
    with tempfile.TemporaryDirectory() as folder, Deployment(Path(folder), plan) as deployment:
        deployment.make_keys()
        deployment.start()
        report = Bench(deployment, options.templates, options.searches).measure()
    return program.finish(options, report, report.problems())


class Bench:
    """One deployment, searched again and again."""

    def __init__(self, deployment: Deployment, templates: int, searches: int) -> None:
        self.deployment = deployment
        self.searches = searches
        self.vectors = inputs(templates, deployment.plan.dimension).templates
        self.used: list[dict[int, float]] = []
        self.open: list[float] = []
        self.correct = 0

    def measure(self) -> Report:
        """Enrol, search, and return the figures."""
        settings = self.deployment.settings()
        with closing(ClientContext(settings)) as context:
            make_gallery(context, GALLERY)
        with Client(settings) as client:
            replica_seconds = self._prepare(client)
            for search in range(1, self.searches + 1):
                self._search(client, search)
        return self._report(replica_seconds)

    def _prepare(self, client: Client) -> float:
        """Enrol, and wait until the guardians have copied everything; return the seconds of that.

        Raises
        ------
        Busy
            They have not.
        """
        client.enroll_templates(GALLERY, records(self.vectors))
        begun = time.perf_counter()
        while True:
            try:
                self._find(client, 0)
                return time.perf_counter() - begun
            except Busy:
                if time.perf_counter() - begun > REPLICA_SECONDS:
                    raise

    def _find(self, client: Client, wanted: int) -> Findings:
        return client.search_template(
            self.vectors[wanted], gallery=GALLERY, purpose=PURPOSE, case="BENCH-1"
        )

    def _search(self, client: Client, search: int) -> None:
        wanted = search * (len(self.vectors) // (self.searches + 1))
        pids = {
            point: self.deployment.service(f"guardian-{point}").pid
            for point in range(1, self.deployment.plan.guardians + 1)
        }
        before = {point: 1000 * cpu_seconds(pid) for point, pid in pids.items()}
        found = self._find(client, wanted)
        self.used.append(
            {point: 1000 * cpu_seconds(pid) - before[point] for point, pid in pids.items()}
        )
        self.open.append(1000 * found.timings.open)
        self.correct += [match.label.name for match in found.found] == [f"person {wanted}"]

    def _report(self, replica_seconds: float) -> Report:
        plan = self.deployment.plan
        return Report(
            profile=plan.profile,
            dimension=plan.dimension,
            templates=len(self.vectors),
            guardians=plan.guardians,
            threshold=plan.threshold,
            searches=self.searches,
            correct=self.correct,
            replica_seconds=round(replica_seconds, 1),
            guardian_cpu_ms_busiest=spread([max(used.values()) for used in self.used]),
            guardian_cpu_ms_together=spread([sum(used.values()) for used in self.used]),
            open_ms=spread(self.open),
        )


if __name__ == "__main__":
    sys.exit(main())
