"""Enrolment through rows and through columns: rates, and from where on columns cost less.

    python -m benchmarks.enrolment [--profile guarded] [--dim 128] [--rows 48] [--columns 2]
                                   [--sizes 1,16,1000] [--json]

A server in a process of its own, mutual TLS on loopback, synthetic templates; a unit counts once
every later search compares with it. What the server and the client spend is processor time of
their processes, so other work on the machine hardly changes it, and the crossing point is a ratio
within one run. Rates by processor time are those of a server with ``--cores`` cores to itself.

``--sizes``: so many templates are enrolled through the client as rows, as columns, and in the way
that it chooses by itself: the best of three in turn, for more than 10,000 once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.galleries import MODEL, make_gallery, records
from benchmarks.hardware import cores
from benchmarks.inputs import SEED
from benchmarks.processes import cpu_seconds
from benchmarks.record import Program, say
from underseal_client import wire
from underseal_client.connection import SERVER, translated
from underseal_client.context import ClientContext
from underseal_client.demo.deployment import Deployment, Plan
from underseal_client.enrolling import Unheard, enroll_records
from underseal_client.faces import synthetic_templates
from underseal_client.units import Signer, TemplateRecord, UnitMaker, label
from underseal_core.gallery.unit import Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_client.records import Gallery
    from underseal_client.units import Labelled

STREAMS: Final = 4
"""Units on their way at once: as many as the server lets one client send."""
FOREVER: Final = 1 << 30
TIMES: Final = 3
MANY: Final = 10_000
"""Templates that are enrolled often enough in one go."""


@dataclass(frozen=True)
class Cost:
    """Of some units: seconds that passed, and processor seconds."""

    templates: int
    units: int
    made: float
    sent: float
    client: float
    server: float

    @property
    def both(self) -> float:
        """Processor seconds of client and server."""
        return self.client + self.server


class Bench:
    """A server, a client and a gallery, for one profile and dimension."""

    def __init__(self, deployment: Deployment) -> None:
        self._server = deployment.service("server").pid
        nobody = deployment.server_address  # enrolment does not call the registrar
        self.context = ClientContext(deployment.settings(registrar=nobody))
        self.connection = self.context.connection
        self._runs = 0

    def cost(self, gallery: Gallery, shape: Shape, units: int, size: int) -> Cost:
        """Make units, then send them, and measure both."""
        signer = Signer(self.connection.me.name, self.connection.credentials.identity)
        maker = UnitMaker(self.context.bundle, self.context.encryptor, gallery, signer)
        filled = [self._labelled(gallery, size, unit) for unit in range(units)]
        wall, spent = time.perf_counter(), time.process_time()
        made = [list(maker.make(shape, templates)[1]) for templates in filled]
        made_wall, made_spent = time.perf_counter() - wall, time.process_time() - spent
        wall, spent, server = time.perf_counter(), time.process_time(), cpu_seconds(self._server)
        with ThreadPoolExecutor(STREAMS) as pool:
            list(pool.map(self._send, made))
        return Cost(
            templates=units * size,
            units=units,
            made=made_wall,
            sent=time.perf_counter() - wall,
            client=made_spent + time.process_time() - spent,
            server=cpu_seconds(self._server) - server,
        )

    def _labelled(self, gallery: Gallery, size: int, seed: int) -> list[Labelled]:
        key = self.context.subject_key
        return [label(record, gallery.name, key) for record in self.records(size, seed)]

    def records(self, size: int, seed: int) -> list[TemplateRecord]:
        """Return templates of as many people."""
        vectors = synthetic_templates(size, self.context.bundle.dimension, seed=SEED + seed)
        return records(vectors, f"person {seed}")

    def _send(self, parts: Sequence[bytes]) -> None:
        messages = (wire.enrol_part(part) for part in parts)
        with translated(SERVER):
            (answer,) = self.connection.galleries.Enrol(messages, timeout=600)
        if not answer.gallery_version:
            raise SystemExit("a unit was answered before searches compare with it")

    def through_client(self, size: int, columns_from: int | None) -> float:
        """Enrol through the client, and return the seconds that passed."""
        changed = self.context.settings.model_copy(update={"columns_from": columns_from})
        self._runs += 1
        name = f"client-{self._runs}"
        make_gallery(self.context, name)
        self.context.settings = changed
        people = self.records(size, seed=size)
        start = time.perf_counter()
        report = enroll_records(self.context, name, people, listener=Unheard())
        if report.enrolled != size:
            raise SystemExit("templates were not enrolled")
        return time.perf_counter() - start


@dataclass(frozen=True)
class Rates:
    """Templates per second, server side: as measured, and by processor time."""

    per_second: int
    per_second_of_cores: int
    client_per_cpu_second: int


@dataclass(frozen=True)
class Crossing:
    """From where on columns cost less, in templates and in full rows."""

    templates: int
    rows: float


@dataclass(frozen=True)
class Through:
    """Seconds for some templates through the client: in its own way, as rows, as columns.

    ``of_best``: how many times the time of the better way its own way takes.
    """

    templates: int
    seconds: float
    rows: float
    columns: float
    of_best: float


@dataclass(frozen=True)
class Report:
    """What one run measured."""

    profile: str
    dimension: int
    rows: Rates
    columns: Rates
    crossing_server: Crossing
    crossing_both: Crossing
    costs: tuple[Cost, ...]
    client: tuple[Through, ...]


def main() -> int:
    """Run the benchmark; return the exit code."""
    program = _program()
    options = program.parse()
    plan = Plan(options.dim, {MODEL: "0.6"}, ("bench",), profile=options.profile)
    with tempfile.TemporaryDirectory() as folder, Deployment(Path(folder), plan) as deployment:
        deployment.make_keys()
        deployment.start_server("--threads", options.cores)
        report = measure(Bench(deployment), options)
    return program.finish(options, report)


def measure(bench: Bench, options: argparse.Namespace) -> Report:
    """Return all figures."""
    bundle = bench.context.bundle
    full = {shape: shape.capacity(bundle.profile, bundle.dimension) for shape in Shape}
    say("rows")
    bench.cost(make_gallery(bench.context, "warm"), Shape.ROW, 2, full[Shape.ROW])
    rows = bench.cost(make_gallery(bench.context, "rows"), Shape.ROW, options.rows, full[Shape.ROW])
    say("columns")
    columns = make_gallery(bench.context, "columns")
    few = bench.cost(columns, Shape.COLUMNS, options.columns, full[Shape.ROW])
    many = bench.cost(columns, Shape.COLUMNS, options.columns, full[Shape.COLUMNS])
    return Report(
        profile=options.profile,
        dimension=options.dim,
        rows=_rates(rows, options.cores),
        columns=_rates(many, options.cores),
        crossing_server=_crossing(
            rows.server / rows.units, few.server / few.units, many.server / many.units, full
        ),
        crossing_both=_crossing(
            rows.both / rows.units, few.both / few.units, many.both / many.units, full
        ),
        costs=(rows, few, many),
        client=tuple(_through(bench, size) for size in options.sizes),
    )


def _through(bench: Bench, size: int) -> Through:
    say(f"{size} templates through the client")
    ways = None, FOREVER, 1
    runs = [
        [bench.through_client(size, start) for start in ways]
        for _ in range(TIMES if size <= MANY else 1)
    ]
    chosen, rows, columns = (min(seconds) for seconds in zip(*runs, strict=True))
    return compared(size, chosen, rows, columns)


def compared(size: int, chosen: float, rows: float, columns: float) -> Through:
    """Return the seconds of the three ways, rounded after they were compared."""
    return Through(
        templates=size,
        seconds=round(chosen, 2),
        rows=round(rows, 2),
        columns=round(columns, 2),
        of_best=round(chosen / min(rows, columns), 2),
    )


def _rates(cost: Cost, cores: int) -> Rates:
    return Rates(
        per_second=round(cost.templates / cost.sent),
        per_second_of_cores=round(cores * cost.templates / cost.server),
        client_per_cpu_second=round(cost.templates / cost.client),
    )


def _crossing(row: float, few: float, many: float, full: dict[Shape, int]) -> Crossing:
    """Return from where on columns cost less, in templates and in full rows.

    A unit of columns costs ``fixed + each * templates``; rows cost ``row`` for each full one.
    """
    each = (many - few) / (full[Shape.COLUMNS] - full[Shape.ROW])
    fixed = few - each * full[Shape.ROW]
    templates = fixed / (row / full[Shape.ROW] - each)
    return Crossing(round(templates), round(templates / full[Shape.ROW], 1))


def _program() -> Program:
    program = Program("enrolment", __doc__)
    parser = program.parser
    parser.add_argument("--profile", default="guarded")
    parser.add_argument("--dim", type=int, default=128, help="dimension of the templates")
    parser.add_argument("--rows", type=int, default=48, help="full rows to enrol")
    parser.add_argument("--columns", type=int, default=2, help="units of columns to enrol")
    parser.add_argument("--cores", type=int, default=cores(), help="of the server")
    parser.add_argument("--sizes", type=_sizes, default="1,16,1000", help="through the client")
    return program


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",") if size]


if __name__ == "__main__":
    sys.exit(main())
