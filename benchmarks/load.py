"""A real server under load: latency against offered rate, what it turns away, and its memory.

    python -m benchmarks.load [--profile guarded] [--dim 128] [--templates 25000] [--clients 8]
                              [--seconds 20] [--minutes 0] [--out DIR] [--json]

A server in a process of its own with its default settings, mutual TLS on loopback, real encrypted
probes; every request is signed and has an id of its own. First callers that wait for their
answers (closed loop): one, for the latency without load, then two, four and eight. The most that
the server completed in a second is called sustainable. Then requests at random times (open loop)
at 0.5 to 2 times that rate; their latency counts from when they were due, so that waiting for a
busy server is not left out. ``--minutes`` goes on at twice the rate for so long.

Generator and server share the machine; what each of them takes of it is in the report. Answers to
the same probe must be equal to the bit. Exit code 1 when one was not, or when a request failed
other than by being turned away (RESOURCE_EXHAUSTED) or by its deadline. ``--out`` gets the record
and a plot.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.galleries import MODEL
from benchmarks.inputs import SEED
from benchmarks.plots import plot_load
from benchmarks.record import Program, Record, say, to_json
from benchmarks.traffic.arrivals import closed_loop, open_loop
from benchmarks.traffic.steps import Step, growth_mib_per_minute, summarise
from benchmarks.traffic.target import GALLERY, Outcome, Target
from benchmarks.traffic.watch import Sample, Watch
from underseal_client.demo.council import free_addresses
from underseal_client.demo.deployment import Deployment, Plan

FACTORS: Final = (0.5, 0.8, 1.0, 1.5, 2.0)
CALLERS: Final = (1, 2, 4, 8)


@dataclass(frozen=True)
class Endurance:
    """Minutes at twice the sustainable rate. ``settled``: memory from the second fifth on."""

    step: Step
    resident_mib_first_fifth: int
    resident_mib_last_fifth: int
    settled_growth_mib_per_minute: float


@dataclass(frozen=True)
class Report:
    """What one run measured. ``samples``: the server, from first to last step."""

    profile: str
    dimension: int
    templates: int
    clients: int
    sustainable_per_second: float
    p99_at_double_over_unloaded: float
    closed: tuple[Step, ...]
    open: tuple[Step, ...]
    endurance: Endurance | None
    samples: tuple[Sample, ...]

    def problems(self) -> list[str]:
        """Return what no server should do."""
        steps = [*self.closed, *self.open]
        steps += [self.endurance.step] if self.endurance else []
        return [f"{step.name}: {step.failed}" for step in steps if step.failed]


class Load:
    """Runs the steps, one after the other."""

    def __init__(self, target: Target, watch: Watch, seconds: float) -> None:
        self._target = target
        self._watch = watch
        self._seconds = seconds

    def closed(self, callers: int) -> Step:
        """Have so many callers ask and wait."""
        name = f"closed, {callers} caller{'s' if callers > 1 else ''}"
        before = self._begin(name)
        outcomes = closed_loop(self._target.ask, callers, self._seconds)
        return self._done(name, self._seconds, outcomes, before)

    def open(self, rate: float, factor: float, seconds: float) -> Step:
        """Send requests at random times, ``rate * factor`` a second."""
        name = f"open, {factor} x"
        before = self._begin(name)
        outcomes = open_loop(self._target.ask, rate * factor, seconds, SEED)
        return self._done(name, seconds, outcomes, before)

    def endure(self, rate: float, minutes: float) -> Endurance:
        """Go on at twice the rate, and look at the memory."""
        first = len(self._watch.samples)
        step = self.open(rate, FACTORS[-1], 60 * minutes)
        samples = self._watch.samples[first:]
        fifth = max(1, len(samples) // 5)
        return Endurance(
            step=step,
            resident_mib_first_fifth=max(s.resident_mib for s in samples[:fifth]),
            resident_mib_last_fifth=max(s.resident_mib for s in samples[-fifth:]),
            settled_growth_mib_per_minute=growth_mib_per_minute(samples[fifth:]),
        )

    def _begin(self, name: str) -> int:
        say(name)
        self._watch.samples.append(self._watch.sample())
        return len(self._watch.samples) - 1

    def _done(self, name: str, seconds: float, outcomes: list[Outcome], before: int) -> Step:
        self._watch.samples.append(self._watch.sample())
        step = summarise(name, seconds, outcomes, self._watch.samples[before:])
        say(
            f"  {step.completed_per_second} of {step.offered_per_second} a second,"
            f" {step.shed} turned away, p50 {step.latency.p50} ms, p99 {step.latency.p99} ms"
        )
        return step


def main() -> int:
    """Run the benchmark; return the exit code."""
    program = Program("load", __doc__)
    parser = program.parser
    parser.add_argument("--profile", default="guarded")
    parser.add_argument("--dim", type=int, default=128, help="dimension of the templates")
    parser.add_argument("--templates", type=int, default=25_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--probes", type=int, default=16, help="different ones")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each step")
    parser.add_argument("--minutes", type=float, default=0.0, help="at twice the rate, at the end")
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds, of each search")
    parser.add_argument("--out", type=Path, help="folder for the record and a plot")
    options = program.parse()
    names = tuple(f"client-{number}" for number in range(options.clients))
    plan = Plan(options.dim, {MODEL: "0.6"}, (GALLERY,), profile=options.profile, clients=names)
    with tempfile.TemporaryDirectory() as folder, Deployment(Path(folder), plan) as deployment:
        deployment.make_keys()
        (metrics,) = free_addresses(1)
        deployment.start_server("--metrics-listen", metrics)
        say(f"enrolling {options.templates} templates")
        target = Target(deployment, options.templates, options.probes, options.deadline)
        report = measure(target, metrics, plan, options)
        target.close()
    if options.out:
        write(program.record(options, report, report.problems()), options.out)
    return program.finish(options, report, report.problems())


def write(record: Record[Report], folder: Path) -> None:
    """Write ``load.json`` and ``load.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "load.json").write_text(to_json(record) + "\n")
    report, machine = record.figures, record.hardware.line
    plot_load(report.closed[0], report.open, report.samples, machine, folder / "load.png")


def measure(target: Target, metrics: str, plan: Plan, options: argparse.Namespace) -> Report:
    """Warm up, then run every step."""
    for number in range(options.probes):
        target.ask(number)
    with Watch(target.process, metrics) as watch:
        load = Load(target, watch, options.seconds)
        closed = [load.closed(callers) for callers in CALLERS]
        rate = max(step.completed_per_second for step in closed)
        steps = [load.open(rate, factor, options.seconds) for factor in FACTORS]
        endurance = load.endure(rate, options.minutes) if options.minutes else None
    double = endurance.step if endurance else steps[-1]
    return Report(
        profile=plan.profile,
        dimension=plan.dimension,
        templates=options.templates,
        clients=len(plan.clients),
        sustainable_per_second=rate,
        p99_at_double_over_unloaded=round(double.latency.p99 / closed[0].latency.p99, 2),
        closed=tuple(closed),
        open=tuple(steps),
        endurance=endurance,
        samples=tuple(watch.samples),
    )


if __name__ == "__main__":
    sys.exit(main())
