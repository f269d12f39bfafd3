"""Enrolment through rows and through columns: rates, and from where on columns cost less.

    python benchmarks/enrolment.py [--profile guarded] [--dim 128] [--rows 48] [--columns 2]
                                   [--sizes 1,16,1000] [--json]

A server in a process of its own, mutual TLS on loopback, synthetic templates; a unit counts once
every later search compares with it. What the server and the client spend is processor time of
their processes, so other work on the machine hardly changes it, and the crossing point is a ratio
within one run. Rates by processor time are those of a server with ``--cores`` cores to itself.

``--sizes``: so many templates are enrolled through the client as rows, as columns, and in the way
that it chooses by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from underseal_client import gallery as galleries
from underseal_client import wire
from underseal_client.connection import SERVER, translated
from underseal_client.context import ClientContext
from underseal_client.demo.deployment import Deployment, Plan
from underseal_client.enrolling import Unheard, enroll_records
from underseal_client.faces import synthetic_templates
from underseal_client.units import Signer, TemplateRecord, UnitMaker, label
from underseal_core.gallery.unit import Shape
from underseal_core.statements import Pin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_client.records import Gallery
    from underseal_client.units import Labelled

SEED: Final = 20180726
STREAMS: Final = 4
"""Units on their way at once: as many as the server lets one client send."""
MODEL: Final = "bench"
FOREVER: Final = 1 << 30


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

    def __init__(self, deployment: Deployment, dimension: int) -> None:
        self._server = deployment.service("server").pid
        nobody = deployment.server_address  # enrolment does not call the registrar
        self.context = ClientContext(deployment.settings(registrar=nobody))
        bundle = self.context.bundle
        self.pin = Pin(
            model_id=MODEL,
            model_dimension=dimension,
            profile=bundle.profile.name,
            key_epoch=bundle.epoch,
        )
        self.connection = self.context.connection

    def gallery(self, name: str) -> Gallery:
        """Make a gallery."""
        return galleries.create(self.connection, name, self.pin)

    def server_seconds(self) -> float:
        """Return the processor seconds that the server has taken so far."""
        fields = Path(f"/proc/{self._server}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cost(self, gallery: Gallery, shape: Shape, units: int, size: int) -> Cost:
        """Make units, then send them, and measure both."""
        signer = Signer(self.connection.me.name, self.connection.credentials.identity)
        maker = UnitMaker(self.context.bundle, self.context.encryptor, gallery, signer)
        filled = [self._labelled(gallery, size, unit) for unit in range(units)]
        wall, spent = time.perf_counter(), time.process_time()
        made = [list(maker.make(shape, templates)[1]) for templates in filled]
        made_wall, made_spent = time.perf_counter() - wall, time.process_time() - spent
        wall, spent, server = time.perf_counter(), time.process_time(), self.server_seconds()
        with ThreadPoolExecutor(STREAMS) as pool:
            list(pool.map(self._send, made))
        return Cost(
            templates=units * size,
            units=units,
            made=made_wall,
            sent=time.perf_counter() - wall,
            client=made_spent + time.process_time() - spent,
            server=self.server_seconds() - server,
        )

    def _labelled(self, gallery: Gallery, size: int, seed: int) -> list[Labelled]:
        key = self.context.subject_key
        return [label(record, gallery.name, key) for record in self.records(size, seed)]

    def records(self, size: int, seed: int) -> list[TemplateRecord]:
        """Return templates of as many people."""
        vectors = synthetic_templates(size, self.pin.model_dimension, seed=SEED + seed)
        return [TemplateRecord(f"person {seed}/{i}", vector) for i, vector in enumerate(vectors)]

    def _send(self, parts: Sequence[bytes]) -> None:
        messages = (wire.enrol_part(part) for part in parts)
        with translated(SERVER):
            (answer,) = self.connection.galleries.Enrol(messages, timeout=600)
        if not answer.gallery_version:
            raise SystemExit("a unit was answered before searches compare with it")

    def through_client(self, size: int, columns_from: int | None) -> float:
        """Enrol through the client, and return the seconds that passed."""
        changed = self.context.settings.model_copy(update={"columns_from": columns_from})
        name = f"client-{size}-{columns_from or 'auto'}"
        self.gallery(name)
        self.context.settings = changed
        records = self.records(size, seed=size)
        start = time.perf_counter()
        report = enroll_records(self.context, name, records, listener=Unheard())
        if report.enrolled != size:
            raise SystemExit("templates were not enrolled")
        return time.perf_counter() - start


def main() -> int:
    """Parse the command line, run, print."""
    options = _options()
    plan = Plan(options.dim, {MODEL: "0.6"}, (MODEL,), profile=options.profile)
    with tempfile.TemporaryDirectory() as folder, Deployment(Path(folder), plan) as deployment:
        deployment.make_keys()
        deployment.start_server("--threads", options.cores)
        report = measure(Bench(deployment, options.dim), options)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            print(f"{name:>28}  {value}")
    return 0


def measure(bench: Bench, options: argparse.Namespace) -> dict[str, object]:
    """Return all figures."""
    bundle = bench.context.bundle
    full = {shape: shape.capacity(bundle.profile, bundle.dimension) for shape in Shape}
    _say("rows")
    bench.cost(bench.gallery("warm"), Shape.ROW, 2, full[Shape.ROW])
    rows = bench.cost(bench.gallery("rows"), Shape.ROW, options.rows, full[Shape.ROW])
    _say("columns")
    columns = bench.gallery("columns")
    few = bench.cost(columns, Shape.COLUMNS, options.columns, full[Shape.ROW])
    many = bench.cost(columns, Shape.COLUMNS, options.columns, full[Shape.COLUMNS])
    report: dict[str, object] = {
        "profile": options.profile,
        "dimension": options.dim,
        "rows": _rates(rows, options.cores),
        "columns": _rates(many, options.cores),
        "crossing_server": _crossing(
            rows.server / rows.units, few.server / few.units, many.server / many.units, full
        ),
        "crossing_both": _crossing(
            rows.both / rows.units, few.both / few.units, many.both / many.units, full
        ),
        "costs": [asdict(cost) for cost in (rows, few, many)],
    }
    for size in options.sizes:
        _say(f"{size} templates through the client")
        chosen = bench.through_client(size, None)
        others = [bench.through_client(size, FOREVER), bench.through_client(size, 1)]
        report[f"client_{size}"] = {
            "seconds": round(chosen, 2),
            "rows": round(others[0], 2),
            "columns": round(others[1], 2),
            "of_best": round(chosen / min(others), 2),
        }
    return report | {"machine": platform.machine(), "cores": os.cpu_count()}


def _rates(cost: Cost, cores: int) -> dict[str, int]:
    """Return templates per second, server side: as measured, and by processor time."""
    return {
        "per_second": round(cost.templates / cost.sent),
        "per_second_of_cores": round(cores * cost.templates / cost.server),
        "client_per_cpu_second": round(cost.templates / cost.client),
    }


def _crossing(row: float, few: float, many: float, full: dict[Shape, int]) -> dict[str, float]:
    """Return from where on columns cost less, in templates and in full rows.

    A unit of columns costs ``fixed + each * templates``; rows cost ``row`` for each full one.
    """
    each = (many - few) / (full[Shape.COLUMNS] - full[Shape.ROW])
    fixed = few - each * full[Shape.ROW]
    templates = fixed / (row / full[Shape.ROW] - each)
    return {"templates": round(templates), "rows": round(templates / full[Shape.ROW], 1)}


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profile", default="guarded")
    parser.add_argument("--dim", type=int, default=128, help="dimension of the templates")
    parser.add_argument("--rows", type=int, default=48, help="full rows to enrol")
    parser.add_argument("--columns", type=int, default=2, help="units of columns to enrol")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="of the server")
    parser.add_argument("--sizes", type=_sizes, default="1,16,1000", help="through the client")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",") if size]


if __name__ == "__main__":
    sys.exit(main())
