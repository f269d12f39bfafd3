"""What a release costs the guardians: k of n processes that compute every search again.

    python benchmarks/oversight.py [--profile guarded] [--templates 25000] [--guardians 3]
                                   [--threshold 2] [--searches 10] [--json]

A ceremony between processes, a server, a registrar and the guardians on loopback with mutual TLS;
templates of dimension 128, enrolled in bulk. ``guardian_cpu`` is processor time of the guardians'
processes per release, all of their threads, re-execution of every block included: of the busiest
one, and of all together. ``open`` is from the sealed result to the verified release as the client
sees it. ``replica`` is from the end of the enrolment to the first release. Medians, with the
fastest and the slowest. Exit code 1 when a release is not the one expected, or when the guardians
together take more than 1.5 s for one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from underseal_client.asking import Findings
from underseal_client.client import Client
from underseal_client.demo.deployment import Deployment, Plan
from underseal_client.faces import synthetic_templates
from underseal_client.units import TemplateRecord
from underseal_core.errors import Busy

GALLERY: Final = "bench"
PURPOSE: Final = "benchmark"
SEED: Final = 20180726
DIMENSION: Final = 128
LIMIT_MS: Final = 1500.0
REPLICA_SECONDS: Final = 300.0
TICKS: Final = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description="Measure what a release costs the guardians.")
    parser.add_argument("--profile", default="guarded")
    parser.add_argument("--templates", type=int, default=25_000)
    parser.add_argument("--guardians", type=int, default=3)
    parser.add_argument("--threshold", type=int, default=2)
    parser.add_argument("--searches", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Bench(options).measure(Path(folder))
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            print(f"{name:>28}  {value}")
    cost = report["guardian_cpu_ms_together"]
    sound = report["correct"] == options.searches and isinstance(cost, float) and cost <= LIMIT_MS
    return 0 if sound else 1


def processor_ms(pid: int) -> float:
    """Processor time that a process has used so far, all threads, in milliseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / TICKS


class Bench:
    """One deployment, searched again and again."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.vectors = synthetic_templates(options.templates, DIMENSION, seed=SEED)
        self.used: list[dict[int, float]] = []
        self.open: list[float] = []
        self.correct = 0

    def measure(self, folder: Path) -> dict[str, object]:
        """Run everything below ``folder`` and return the figures."""
        options = self.options
        plan = Plan(
            DIMENSION,
            {"zoo-sface": "0.6"},
            (GALLERY,),
            profile=options.profile,
            purpose=PURPOSE,
            guardians=options.guardians,
            threshold=options.threshold,
        )
        with Deployment(folder, plan) as deployment:
            deployment.make_keys()
            deployment.start()
            with Client(deployment.settings()) as client:
                replica_seconds = self._prepare(client)
                for search in range(1, options.searches + 1):
                    self._search(client, deployment, search)
        return self._report(replica_seconds)

    def _prepare(self, client: Client) -> float:
        """Enrol, and wait until the guardians have copied everything; return the seconds of that.

        Raises
        ------
        Busy
            They have not.
        """
        client.create_gallery(GALLERY)
        records = [TemplateRecord(f"person {i}", vector) for i, vector in enumerate(self.vectors)]
        client.enroll_templates(GALLERY, records)
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

    def _search(self, client: Client, deployment: Deployment, search: int) -> None:
        wanted = search * (self.options.templates // (self.options.searches + 1))
        pids = {
            point: deployment.service(f"guardian-{point}").pid
            for point in range(1, self.options.guardians + 1)
        }
        before = {point: processor_ms(pid) for point, pid in pids.items()}
        found = self._find(client, wanted)
        self.used.append({point: processor_ms(pid) - before[point] for point, pid in pids.items()})
        self.open.append(1000 * found.timings.open)
        self.correct += [match.label.name for match in found.found] == [f"person {wanted}"]

    def _report(self, replica_seconds: float) -> dict[str, object]:
        together = [sum(used.values()) for used in self.used]
        report: dict[str, object] = {
            **vars(self.options),
            "dimension": DIMENSION,
            "correct": self.correct,
            "replica_seconds": round(replica_seconds, 1),
        }
        del report["json"]
        figures = {
            "guardian_cpu_ms_busiest": [max(used.values()) for used in self.used],
            "guardian_cpu_ms_together": together,
            "open_ms": self.open,
        }
        for name, values in figures.items():
            report[name] = round(statistics.median(values), 1)
            report[f"{name}_range"] = f"{min(values):.1f} - {max(values):.1f}"
        return report | {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "system": platform.system(),
        }


if __name__ == "__main__":
    sys.exit(main())
