"""The whole service on loopback: separate processes, mutual TLS, synthetic templates.

    python benchmarks/service.py [--profile guarded] [--templates 20000] [--searches 30] [--json]

Enrols templates of the default model's dimension, 128, in bulk, then searches for enrolled ones
and checks every release. Times are medians over the warm searches, with the fastest and the
slowest: ``compare`` is from encrypted probe to signed, sealed result as the client sees it;
``open`` from there to the verified release.
Exit code 1 when a release is not the one expected.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from underseal_client.client import Client
from underseal_client.demo.deployment import Deployment, Plan
from underseal_client.faces import synthetic_templates
from underseal_client.units import TemplateRecord

GALLERY: Final = "bench"
PURPOSE: Final = "benchmark"
SEED: Final = 20180726
DIMENSION: Final = 128
STEPS: Final = ("encrypt", "compare", "open")


def main() -> int:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description="Measure the service end to end.")
    parser.add_argument("--profile", default="guarded")
    parser.add_argument("--templates", type=int, default=20_000)
    parser.add_argument("--searches", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), options.profile, options.templates, options.searches)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            print(f"{name:>24}  {value}")
    return 0 if report["correct"] == options.searches else 1


def measure(folder: Path, profile: str, templates: int, searches: int) -> dict[str, object]:
    """Run everything below ``folder`` and return the figures, in milliseconds unless named."""
    vectors = synthetic_templates(templates, DIMENSION, seed=SEED)
    records = [TemplateRecord(f"person {i}", vector) for i, vector in enumerate(vectors)]
    plan = Plan(DIMENSION, {"zoo-sface": "0.6"}, (GALLERY,), profile=profile, purpose=PURPOSE)
    times: dict[str, list[float]] = {step: [] for step in STEPS}
    correct = 0
    with Deployment(folder, plan) as deployment:
        deployment.make_keys()
        deployment.start()
        with Client(deployment.settings()) as client:
            client.create_gallery(GALLERY)
            begun = time.perf_counter()
            client.enroll_templates(GALLERY, records)
            enrol_seconds = time.perf_counter() - begun
            for search in range(searches + 1):  # the first one warms up
                wanted = search * (templates // (searches + 1))
                found = client.search_template(
                    vectors[wanted], gallery=GALLERY, purpose=PURPOSE, case="BENCH-1"
                )
                if search:
                    correct += [m.label.name for m in found.found] == [f"person {wanted}"]
                    for step in STEPS:
                        times[step].append(1000 * getattr(found.timings, step))
    report: dict[str, object] = {
        "profile": profile,
        "dimension": DIMENSION,
        "templates": templates,
        "searches": searches,
        "correct": correct,
        "enrolled_per_second": round(templates / enrol_seconds),
    }
    for step in STEPS:
        low, high = min(times[step]), max(times[step])
        report[f"{step}_ms"] = round(statistics.median(times[step]), 1)
        report[f"{step}_ms_range"] = f"{low:.1f} - {high:.1f}"
    return report | {"machine": platform.machine(), "system": platform.system()}


if __name__ == "__main__":
    sys.exit(main())
