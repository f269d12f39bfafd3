"""Embeddings in a file become a gallery, through the client's command; also with kills on the way.

    python -m benchmarks.migration [--templates 100000] [--profile guarded] [--dim 128]
                                   [--columns-from N] [--folder DIR] [--json]

A whole deployment with its default settings and mutual TLS on loopback. ``underseal enroll
--embeddings`` runs twice, into two galleries. First undisturbed, with the memory of client and
server watched. Then the client is killed (SIGKILL) once a third of the units are durable, and the
server once two thirds are; each time the same command is given again. Exit code 1 when a template
is missing or there twice, a search finds somebody else, or ``underseal-server check --deep`` finds
anything. For 100,000 templates (``guarded``, d = 128) it takes 2 GB of disk and some minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.galleries import MODEL, make_gallery
from benchmarks.inputs import inputs
from benchmarks.processes import cpu_seconds, peak_mib, resident_mib
from benchmarks.record import Program, say
from underseal_client import Client
from underseal_client.context import ClientContext
from underseal_client.demo.deployment import SERVER, Deployment, Plan
from underseal_client.demo.process import find_program, run_program
from underseal_client.units import chunks, columns_from

if TYPE_CHECKING:
    import numpy.typing as npt

GALLERIES: Final = ("undisturbed", "killed")
PURPOSE: Final = "migration"
PARTS: Final = 10
"""Of the run, for which memory is told."""
MOST_RUNS: Final = 6
LEAST_UNITS: Final = 6
TICK: Final = 0.1


@dataclass(frozen=True)
class Undisturbed:
    """One run of the command. Seconds, templates per second, MiB by tenths of the time.

    ``first``, ``last``: the rate at which templates became durable in either half of the units,
    from the first unit on.
    """

    seconds: float
    per_second: int
    first: int
    last: int
    client_cpu: float
    server_cpu: float
    client_mib: tuple[int, ...]
    server_mib: tuple[int, ...]
    client_peak_mib: int
    server_peak_mib: int


@dataclass(frozen=True)
class Killed:
    """What it took with kills: units that were durable at each, and how every run ended."""

    seconds: float
    client_killed_at: int
    server_killed_at: int
    codes: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """What one benchmark measured."""

    profile: str
    dimension: int
    templates: int
    units: int
    file_mib: int
    undisturbed: Undisturbed
    killed: Killed
    check: str


def main() -> int:
    """Run the benchmark; return the exit code."""
    program = _program()
    options = program.parse()
    plan = Plan(options.dim, {MODEL: "0.6"}, GALLERIES, profile=options.profile, purpose=PURPOSE)
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        Deployment(Path(folder), plan) as deployment,
    ):
        deployment.make_keys()
        deployment.start()
        report, problems = measure(deployment, options.templates, options.columns_from)
    return program.finish(options, report, problems)


def measure(
    deployment: Deployment, templates: int, smallest: int | None
) -> tuple[Report, list[str]]:
    """Enrol twice; return figures and problems."""
    vectors = inputs(templates, deployment.plan.dimension).templates
    command = Command(deployment, vectors, smallest)
    say("undisturbed")
    undisturbed = command.undisturbed(GALLERIES[0])
    say("with kills")
    killed = command.with_kills(GALLERIES[1])
    problems = [text for name in GALLERIES for text in _problems(deployment, vectors, name)]
    deployment.service(SERVER).stop()
    arguments = ("check", "--data", deployment.server_data, "--deep")
    checked = run_program("underseal-server", *arguments).strip().splitlines()
    report = Report(
        profile=deployment.plan.profile,
        dimension=deployment.plan.dimension,
        templates=templates,
        units=command.units,
        file_mib=command.file.stat().st_size >> 20,
        undisturbed=undisturbed,
        killed=killed,
        check=checked[-1],
    )
    return report, problems


def _problems(deployment: Deployment, vectors: npt.NDArray[np.float64], name: str) -> list[str]:
    """Look whether everybody is there once, and is found."""
    problems, purpose = [], deployment.plan.purpose
    with Client(deployment.settings()) as client:
        stored = Counter(entry.subject_id for entry in client.templates(name))
        wanted = {client.subject_id(name, f"person {row}") for row in range(len(vectors))}
        if stored != Counter(wanted):
            twice = sum(count > 1 for count in stored.values())
            missing = len(wanted - set(stored))
            problems.append(f"{name}: {missing} people are missing, {twice} are there twice")
        for row in (0, len(vectors) // 2, len(vectors) - 1):
            found = client.search_template(vectors[row], gallery=name, purpose=purpose, case="B-1")
            if [match.label.name for match in found.found] != [f"person {row}"]:
                problems.append(f"{name}: a search for person {row} does not find that one alone")
    return problems


class Command:
    """``underseal enroll --embeddings`` on a file of synthetic templates."""

    def __init__(
        self, deployment: Deployment, vectors: npt.NDArray[np.float64], smallest: int | None
    ) -> None:
        self._deployment = deployment
        self._config = deployment.folder / "client.toml"
        self.file = deployment.folder / "embeddings.npz"
        names = np.array([f"person {row}" for row in range(len(vectors))])
        table = vectors.astype(np.float32)
        np.savez(self.file, embeddings=table, subjects=names, model=np.array(MODEL))
        settings = deployment.settings(columns_from=smallest)
        values = settings.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in values.items()]
        self._config.write_text("".join(lines))
        with closing(ClientContext(settings)) as context:
            for name in GALLERIES:
                make_gallery(context, name)
            bundle = context.bundle
        profile, dimension = bundle.profile, bundle.dimension
        least = smallest or columns_from(profile, dimension)
        self._sizes = [n for _, n in chunks(len(vectors), profile.degree, dimension, least)]
        if len(self._sizes) < LEAST_UNITS:
            raise SystemExit(f"so many templates are {len(self._sizes)} units: take more")

    @property
    def units(self) -> int:
        """How many units the client sends."""
        return len(self._sizes)

    def undisturbed(self, gallery: str) -> Undisturbed:
        """Run it once and watch."""
        server = self._deployment.service(SERVER).pid
        spent, before = cpu_seconds(server), set(self._stored())
        begun, moment = time.monotonic(), time.time()
        process = self._start(gallery)
        client_mib, server_mib, client_cpu, client_peak = [], [], 0.0, 0
        while process.poll() is None:
            try:
                client_mib.append(resident_mib(process.pid))
                client_cpu, client_peak = cpu_seconds(process.pid), peak_mib(process.pid)
            except (ValueError, OSError):
                break  # it has just ended
            server_mib.append(resident_mib(server))
            time.sleep(TICK)
        if process.wait() != 0:
            raise SystemExit(f"the client ended with {process.returncode}: {self._said()}")
        seconds = time.monotonic() - begun
        fresh = [path for path in self._stored() if path not in before]
        times = sorted(path.stat().st_mtime - moment for path in fresh)
        half = len(times) // 2
        first, last = sum(self._sizes[1:half]), sum(self._sizes[half:])
        return Undisturbed(
            seconds=seconds,
            per_second=round(sum(self._sizes) / seconds),
            first=round(first / (times[half - 1] - times[0])),
            last=round(last / (times[-1] - times[half - 1])),
            client_cpu=client_cpu,
            server_cpu=cpu_seconds(server) - spent,
            client_mib=_by_parts(client_mib),
            server_mib=_by_parts(server_mib),
            client_peak_mib=client_peak,
            server_peak_mib=peak_mib(server),
        )

    def with_kills(self, gallery: str) -> Killed:
        """Kill the client, then the server; repeat the command until it has done everything."""
        before, begun = len(self._stored()), time.monotonic()
        client = self._start(gallery)
        at_client = self._wait(lambda: len(self._stored()) - before, self.units // 3, client)
        client.kill()
        codes = [client.wait()]
        client = self._start(gallery)
        at_server = self._wait(lambda: len(self._stored()) - before, 2 * self.units // 3, client)
        self._deployment.service(SERVER).kill()
        codes.append(client.wait())
        self._deployment.start_server(listen=self._deployment.server_address)
        while codes[-1] != 0 and len(codes) < MOST_RUNS:
            codes.append(self._start(gallery).wait())
        return Killed(time.monotonic() - begun, at_client, at_server, tuple(codes))

    def _wait(self, count: Callable[[], int], wanted: int, client: subprocess.Popen[bytes]) -> int:
        while (there := count()) < wanted:
            if client.poll() is not None:
                raise SystemExit(f"the client ended with {client.returncode}: {self._said()}")
            time.sleep(TICK / 4)
        return there

    def _start(self, gallery: str) -> subprocess.Popen[bytes]:
        command = [find_program("underseal"), "--config", str(self._config), "enroll", "--json"]
        command += ["--embeddings", str(self.file), "-g", gallery]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    @property
    def _log(self) -> Path:
        return self._deployment.folder / "enroll.log"

    def _said(self) -> str:
        return self._log.read_text("utf-8")[-1000:]

    def _stored(self) -> list[Path]:
        """Return the files of units that are durable."""
        return list((self._deployment.server_data / "units").rglob("*.unit"))


def _by_parts(samples: Sequence[int]) -> tuple[int, ...]:
    """Return the median of each tenth."""
    bounds = np.linspace(0, len(samples), PARTS + 1).astype(int)
    parts = [samples[start:end] for start, end in pairwise(bounds)]
    return tuple(round(statistics.median(part)) for part in parts if len(part))


def _program() -> Program:
    program = Program("migration", __doc__)
    parser: argparse.ArgumentParser = program.parser
    parser.add_argument("--profile", default="guarded")
    parser.add_argument("--dim", type=int, default=128, help="dimension of the templates")
    parser.add_argument("--templates", type=int, default=100_000)
    parser.add_argument("--columns-from", type=int, help="the client's setting")
    parser.add_argument("--folder", type=Path, help="on a disk with room; default: temporary")
    return program


if __name__ == "__main__":
    sys.exit(main())
