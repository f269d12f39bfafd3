"""Underseal beside others that compare encrypted templates, and beside none at all.

    python -m benchmarks.peers [--dim 512] [--templates 32768] [--threads 1,2] [--systems numpy,...]
                               [--out DIR] [--json]

The same random unit vectors for all, one probe; slow systems get the first few of them only, and
what more would cost is extrapolated. Every score is compared with the plaintext's; exit code 1 when
one is off by more than its system's tolerance. Times are the best of several runs: a machine with
other work shows in all of them. ``--out`` gets the record, the tables in Markdown and a plot.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.inputs import inputs
from benchmarks.peers.measuring import SYSTEMS, Measured, measure
from benchmarks.peers.table import markdown
from benchmarks.plots import plot_peers
from benchmarks.record import Program, Record, say, to_json
from underseal_core.scheme.profiles import padded_dimension


@dataclass(frozen=True)
class Report:
    """What one run measured."""

    dimension: int
    systems: tuple[Measured, ...]

    def problems(self) -> list[str]:
        """Return whose scores are wrong."""
        return [
            f"{one.about.name}: a score is off by {one.max_error:.2g}"
            for one in self.systems
            if not one.max_error <= one.about.tolerance
        ]


def main() -> int:
    """Run the benchmark; return the exit code."""
    program = Program("peers", __doc__)
    parser = program.parser
    parser.add_argument("--dim", type=int, default=512, help="dimension of the templates")
    parser.add_argument("--templates", type=int, default=32768)
    parser.add_argument("--threads", type=_numbers, default="1,2")
    parser.add_argument("--systems", type=_names, default=",".join(SYSTEMS))
    parser.add_argument("--out", type=Path, help="folder for record, table and plot")
    options = program.parse()
    report = run(options)
    if options.out:
        write(program.record(options, report, report.problems()), options.out)
    return program.finish(options, report, report.problems())


def write(record: Record[Report], folder: Path) -> None:
    """Write ``peers.json``, ``peers.md`` and ``peers.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    systems, machine = record.figures.systems, record.hardware.line
    (folder / "peers.json").write_text(to_json(record) + "\n")
    (folder / "peers.md").write_text(f"{markdown(systems)}\n{machine}\n")
    plot_peers(systems, machine, folder / "peers.png")


def run(options: argparse.Namespace) -> Report:
    """Measure one system after the other."""
    dimension = padded_dimension(options.dim)
    given, found = inputs(options.templates, dimension), []
    for name in options.systems:
        say(name)
        found.append(measure(name, given, options.threads))
    return Report(dimension, tuple(found))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in set(names) - set(SYSTEMS):
        raise argparse.ArgumentTypeError(f"unknown: {name}; there are {', '.join(SYSTEMS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
