"""A gallery of a million templates on disk: start, memory, search and removal of a real server.

    python -m benchmarks.scale [--templates 1000000] [--rows N] [--dim 128] [--profile compact]
                               [--memory-mib 512] [--more-mib N] [--searches 3] [--ray]
                               [--folder DIR] [--json]

Makes the gallery with the server's own store: bulk units of synthetic residues, and a few of real
encryptions (the first, the last and one in the middle), and rows. A million templates of
``compact`` take 5 GB of disk and 4 GB of memory at d = 128, 16 and 12 GB at d = 512, and some
minutes. With ``--rows`` the gallery is made of so many units
of one row each instead: every block holds the same real encryptions, each under a token and a
receipt of its own. Then it starts ``underseal-server serve`` on it, first with ``--memory-mib``,
then with ``--more-mib``, else room for everything, and measures; with ``--ray`` once more, with the
blocks in the memory of a Ray that the server starts; and last ``underseal-server check``. Exit code
1 when a score of the real encryptions is off by more than the profile's bound, when the servers'
results, or those that the benchmark computes itself, differ in a bit, when a removed template is
still counted, or when the check finds anything.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from benchmarks.accuracy import BOUND
from benchmarks.hardware import cores
from benchmarks.large_gallery import CLIENT, GALLERY, Maker, Sample, results_of
from benchmarks.processes import cpu_seconds, peak_mib, resident_mib
from benchmarks.record import Program, say
from underseal_client import gallery as galleries
from underseal_client.connection import Connection
from underseal_client.demo.process import find_program, run_program
from underseal_client.search import Question, SealedAnswer, ask_server, wanted
from underseal_client.settings import ClientSettings
from underseal_core.gallery.block import Block
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.profiles import PROFILES, padded_dimension
from underseal_server.store.store import Store

FROM_DISK: Final = 3
"""Searches at most of the server that reads blocks from disk for each."""
SAMPLED: Final = 3
"""Synthetic blocks whose results are computed again from their units."""
JOIN_SECONDS: Final = 300.0
"""For a Ray to start, and its first shard."""
MIB: Final = 1 << 20


@dataclass(frozen=True)
class Serving:
    """What one server did. Times in seconds, memory in MiB."""

    memory_mib: int
    seconds_to_listen: float
    seconds_to_describe: float
    cpu_to_describe: float
    rss_after_start: int
    rss_peak: int
    first_search: float
    later_searches: float
    best_search: float
    cpu_per_search: float
    remove_one_of_many: float
    search_after_it: float
    remove_a_row: float
    search_after_that: float


@dataclass(frozen=True)
class Report:
    """What one run measured."""

    profile: str
    dimension: int
    templates: int
    units: int
    blocks: int
    blocks_mib: int
    units_mib: int
    catalogue_mib: int
    seconds_to_make: float
    bounded: Serving
    unbounded: Serving
    ray: Serving | None
    ray_to_threads: float | None
    max_error: float
    error_bound: float
    seconds_to_check: float


def main() -> int:
    """Run the benchmark; return the exit code."""
    program = _program()
    options = program.parse()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report, problems = measure(Path(folder), options)
    return program.finish(options, report, problems)


def measure(folder: Path, options: argparse.Namespace) -> tuple[Report, list[str]]:
    """Make the gallery below ``folder`` and run every server on it; return problems, too."""
    profile, dimension = PROFILES[options.profile], padded_dimension(options.dim)
    credentials = folder / "credentials"
    run_program("underseal-server", "init", credentials, "--client", CLIENT)
    settings = ClientSettings(credentials=credentials / "clients" / CLIENT)
    sample, data = Sample(profile, dimension), folder / "data"
    start = time.monotonic()
    maker = Maker(data, sample, Connection(settings).credentials.identity)
    if options.rows:
        blocks = maker.fill_rows(options.templates, options.rows)
    else:
        blocks = maker.fill(options.templates)
    maker.add_single()
    maker.close()
    made = time.monotonic() - start
    bench = Bench(folder, settings, sample)
    bounded, few = bench.run(options.memory_mib, min(options.searches, FROM_DISK))
    unbounded, whole = bench.run(options.more_mib, options.searches)
    ray = None
    if options.ray:
        ray, found = bench.run(options.memory_mib, options.searches, "ray")
        bench.check_equal(whole, found)
    bench.compare(few, whole)
    report = Report(
        profile=profile.name,
        dimension=dimension,
        templates=options.templates,
        units=maker.units,
        blocks=blocks,
        blocks_mib=_size(data / "blocks"),
        units_mib=_size(data / "units"),
        catalogue_mib=_size(data) - _size(data / "blocks") - _size(data / "units"),
        seconds_to_make=made,
        bounded=bounded,
        unbounded=unbounded,
        ray=ray,
        ray_to_threads=None if ray is None else ray.best_search / unbounded.best_search,
        max_error=bench.max_error,
        error_bound=BOUND[profile.name],
        seconds_to_check=bench.check_all(),
    )
    return report, bench.problems


class Bench:
    """Runs servers on one data folder, one after the other, and asks them."""

    def __init__(self, folder: Path, settings: ClientSettings, sample: Sample) -> None:
        self._folder = folder
        self._settings = settings
        self._sample = sample
        self._vector = sample.real[0][5]
        self._probe = sample.encryptor.encrypt_probe(self._vector)
        self.max_error = 0.0
        self.problems: list[str] = []

    def run(
        self, memory_mib: int, searches: int, executor: str = "threads"
    ) -> tuple[Serving, SealedAnswer]:
        """Measure one server; return its figures and its first answer."""
        say(f"server with {memory_mib} MiB for blocks, executor {executor}")
        begun = time.monotonic()
        with (
            serving(self._folder, memory_mib, executor) as (address, process),
            Connection(self._settings.model_copy(update={"server": address})) as connection,
        ):
            listening = time.monotonic() - begun
            state = galleries.describe(connection, GALLERY)
            described = time.monotonic() - begun
            cpu = cpu_seconds(process)
            after_start = resident_mib(process)
            found = [self._search(connection) for _ in range(searches)]
            searching = (cpu_seconds(process) - cpu) / searches
            many = self._remove(connection, self._sample.of_many.pop())
            seconds, after = self._search(connection)
            counted = after.result.snapshot.templates
            self._check(counted == state.templates - 1, "a removed template is still counted")
            row = self._remove(connection, self._sample.of_rows.pop())
            last_seconds, last = self._search(connection)
            self._check(results_of(last) != results_of(after), "a removed row is still there")
            peak = peak_mib(process)
        answers = [answer for _, answer in found]
        self._judge(answers)
        later = [took for took, _ in found][1:] or [found[0][0]]
        return Serving(
            memory_mib=memory_mib,
            seconds_to_listen=listening,
            seconds_to_describe=described,
            cpu_to_describe=cpu,
            rss_after_start=after_start,
            rss_peak=peak,
            first_search=found[0][0],
            later_searches=statistics.median(later),
            best_search=min(later),
            cpu_per_search=searching,
            remove_one_of_many=many,
            search_after_it=seconds,
            remove_a_row=row,
            search_after_that=last_seconds,
        ), answers[0]

    def compare(self, one: SealedAnswer, other: SealedAnswer) -> None:
        """Check that both servers, and this process, find the same for blocks that stayed."""
        self.check_equal(one, other)
        left = results_of(one)
        store = Store(self._folder / "data")
        keys = self._sample.ceremony.bundle.keys
        evaluator = Evaluator(self._sample.profile, self._sample.dimension, keys, cores())
        with evaluator:
            opened = store.open_gallery(store.galleries.get(GALLERY), evaluator)
            probe = evaluator.prepare(self._probe).probe
            synthetic = sorted(set(left) - set(self._sample.real))
            for number in synthetic[:: max(1, len(synthetic) // SAMPLED)]:
                (unit,) = store.units.live(opened.gallery, number)
                block = Block(None, number, evaluator, opened.files)
                block.fold_in(unit)
                own = evaluator.score(probe, block.tiles).to_bytes()
                self._check(own == left[number], f"the result of block {number} is not exact")
        store.close()

    def check_equal(self, one: SealedAnswer, other: SealedAnswer) -> None:
        """Check that two servers find the same for blocks that stayed."""
        left, right = results_of(one), results_of(other)
        stayed = set(left) - self._sample.changing
        same = all(left[number] == right[number] for number in stayed)
        self._check(same and len(left) == len(right), "the two servers' results differ")

    def check_all(self) -> float:
        """Let the server's own check look at everything; return the seconds that it takes."""
        say("check")
        begun = time.monotonic()
        command = [find_program("underseal-server"), "check", "--data", str(self._folder / "data")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self._check(done.returncode == 0, f"the check: {done.stdout}{done.stderr}")
        return time.monotonic() - begun

    def _judge(self, answers: list[SealedAnswer]) -> None:
        for answer in answers:
            error = self._sample.score_error(answer, self._vector)
            self.max_error = max(self.max_error, error)
            self._check(results_of(answer) == results_of(answers[0]), "two searches differ")
        sound = self.max_error <= BOUND[self._sample.profile.name]
        self._check(sound, f"a score is off by {self.max_error:.3g}")

    def _search(self, connection: Connection) -> tuple[float, SealedAnswer]:
        gallery = galleries.describe(connection, GALLERY)
        question = Question("benchmark", "BENCH-1", wanted(1, None))
        start = time.monotonic()
        probe, validity = self._probe.to_bytes(), timedelta(minutes=10)
        answer = ask_server(connection, gallery, probe, question, validity)
        return time.monotonic() - start, answer

    def _remove(self, connection: Connection, template_id: bytes) -> float:
        start = time.monotonic()
        galleries.remove(connection, GALLERY, [template_id])
        return time.monotonic() - start

    def _check(self, holds: bool, problem: str) -> None:  # noqa: FBT001  # as assert has it
        if not holds:
            self.problems.append(problem)


@contextmanager
def serving(folder: Path, memory_mib: int, executor: str) -> Iterator[tuple[str, int]]:
    """Run ``underseal-server serve``; yield its address and process id once it listens."""
    config = folder / "server.toml"
    paths = {"data": folder / "data", "credentials": folder / "credentials" / "server"}
    lines = [f'{name} = "{path}"' for name, path in paths.items()]
    lines += ['listen = "127.0.0.1:0"', f"memory_mib = {memory_mib}", f'executor = "{executor}"']
    config.write_text("\n".join(lines))
    command = [find_program("underseal-server"), "serve", "--config", str(config), "--json"]
    said = folder / "server.log"
    with said.open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None  # noqa: S101  # it was asked for
        if executor == "ray":
            wait_joined(process, said)
        yield json.loads(process.stdout.readline())["listening"], process.pid
    finally:
        process.terminate()
        process.wait()


def wait_joined(process: subprocess.Popen[str], said: Path, seconds: float = JOIN_SECONDS) -> None:
    """Wait until a server's log says that a shard joined.

    Raises
    ------
    SystemExit
        The server ended, or no shard joined in time.
    """
    end = time.monotonic() + seconds
    while "shard joined" not in said.read_text():
        if process.poll() is not None:
            raise SystemExit(f"the server ended before a shard joined:\n{said.read_text()}")
        if time.monotonic() > end:
            raise SystemExit(f"no shard joined in {seconds:g} s:\n{said.read_text()}")
        time.sleep(0.1)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // MIB


def _program() -> Program:
    program = Program("scale", __doc__)
    parser = program.parser
    parser.add_argument("--profile", choices=sorted(PROFILES), default="compact")
    parser.add_argument("--dim", type=int, default=128, help="dimension of the templates")
    parser.add_argument("--templates", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=0, help="units of one row, in place of bulk")
    parser.add_argument("--memory-mib", type=int, default=512, help="bound of the first server")
    parser.add_argument("--more-mib", type=int, default=1 << 20, help="of the second; none")
    parser.add_argument("--searches", type=int, default=3, help="searches per server")
    parser.add_argument("--ray", action="store_true", help="a third server, on a Ray of its own")
    parser.add_argument("--folder", type=Path, help="on a disk with room; default: temporary")
    return program


if __name__ == "__main__":
    sys.exit(main())
