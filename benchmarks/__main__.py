"""Engine, service and peers in one run on the same inputs, with a report.

    python -m benchmarks [--dim 512] [--templates 32768] [--searches 30] [--out benchmarks/results]

Writes ``report.md`` with its tables, ``peers.png``, and a JSON record of each program. On two cores
it takes some ten minutes. Exit code 1 when any of them failed: an answer was wrong, or it did not
run to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.hardware import Hardware, cores
from benchmarks.peers.measuring import SYSTEMS
from benchmarks.peers.table import short, size, table
from benchmarks.record import say

PROFILES: Final = ("swift", "compact", "guarded")
ROOT: Final = Path(__file__).resolve().parents[1]
BATCH: Final = 16
"""Probes at a time, beside one."""
RESULTS: Final = ROOT / "benchmarks" / "results"


def main() -> int:
    """Run everything; return the exit code."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    same = ("--dim", options.dim, "--templates", options.templates)
    threads = ",".join(str(count) for count in sorted({1, cores()}))
    systems = ("--systems", options.systems, "--threads", threads, "--out", options.out)
    codes = [run("peers", Path(os.devnull), *same, *systems)]
    for profile in PROFILES:
        engine = options.out / f"engine-{profile}.json"
        each = ("--profile", profile, "--threads", cores(), "--probes", BATCH)
        codes.append(run("engine", engine, *same, *each))
    searches = ("--searches", options.searches)
    codes.append(run("service", options.out / "service.json", *same, *searches))
    if not any(codes):
        report = options.out / "report.md"
        report.write_text(compose(options.out))
        say(f"wrote {report}")
    return int(any(codes))  # one that a signal ended has a code below 0


def run(name: str, record: Path, *arguments: object) -> int:
    """Run a program in a process of its own and keep its record; return its exit code."""
    say(f"== {name} {' '.join(map(str, arguments))}")
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments), "--json"]
    with record.open("w", encoding="utf-8") as file:
        return subprocess.run(command, cwd=ROOT, stdout=file, check=False).returncode


def compose(folder: Path) -> str:
    """Return the report of the records in a folder."""
    peers = _read(folder / "peers.json")
    engines = [_read(folder / f"engine-{profile}.json") for profile in PROFILES]
    service = _read(folder / "service.json")
    machine = Hardware(**peers["hardware"])
    dimension, at = peers["figures"]["dimension"], peers["at"]
    return "\n\n".join(
        [
            "# Benchmarks",
            f"{machine.line}. Underseal {machine.underseal}, {at}.",
            f"## Beside others, d = {dimension}",
            (folder / "peers.md").read_text(encoding="utf-8").strip(),
            "![One comparison, and one query](peers.png)",
            "## Engine",
            _engine_table(engines),
            "## Service",
            _service_text(service["figures"]),
            "",
        ]
    )


def _engine_table(records: list[dict[str, Any]]) -> str:
    head = (
        "profile",
        "threads",
        "µs per comparison, one probe",
        f"{BATCH} at a time",
        "expansion, ms",
        "whole probe, ms",
        "of many, ms",
        "bytes per template",
        "evaluation keys",
        "error, rms / max",
        "share of stream bandwidth",
    )
    figures = [record["figures"] for record in records]
    return table(
        head,
        (
            (
                f"`{one['profile']}`",
                f"{one['threads']}",
                short(one["us_per_comparison"]),
                short(one["batch_us_per_comparison"]),
                short(one["expand_ms"]),
                short(one["prepare_ms"]),
                short(one["prepare_each_ms"]),
                f"{one['bytes_per_template']:,.0f}",
                size(one["evaluation_key_bytes"]),
                f"{one['rms_error']:.1e} / {one['max_error']:.1e}",
                f"{one['gallery_gb_per_s'] / one['stream_gb_per_s']:.0%}",
            )
            for one in figures
        ),
    )


def _service_text(one: dict[str, Any]) -> str:
    steps = ("encrypt", "compare", "open", "answer", "engine")
    parts = ("median", "low", "high")
    cells = [[step, *(f"{one[f'{step}_ms'][part]:,.0f}" for part in parts)] for step in steps]
    return (
        f"{one['templates']:,} templates, d = {one['dimension']}, `{one['profile']}`, "
        f"{one['searches']} searches after one that warms up; milliseconds as the client sees "
        f"them. `answer` is `compare` of probes encrypted before, one right after the other, "
        f"`engine` its arithmetic alone: the service adds {one['overhead']:.0%} (median of rounds "
        f"in turn), and {one['overhead_cpu']:.0%} in processor time.\n\n"
        + table(("step", "median", "fastest", "slowest"), cells)
    )


def _read(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--dim", type=int, default=512, help="dimension of the templates")
    parser.add_argument("--templates", type=int, default=32768)
    parser.add_argument("--searches", type=int, default=30, help="through the service")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="beside each other")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
