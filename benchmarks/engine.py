"""The engine on encrypted data, with every score checked against the plaintext.

    python benchmarks/engine.py [--profile guarded] [--dim 512] [--templates 32768] [--threads 1]
                                [--repeat 7] [--json]

Runs a key ceremony, encrypts a gallery in bulk and a probe, expands, scores all blocks, opens the
results and compares. Times are the best of several runs: what the machine does when nothing else
disturbs it. Exit code 1 when any score is off by more than the profile's bound.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from underseal_auditor.keys.ceremony import SoleCeremony, run_sole
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind, wire_size
from underseal_core.scheme.encoding import decode_coefficients
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import Evaluator, tiles_shape
from underseal_core.scheme.profiles import PROFILES, padded_dimension
from underseal_core.signing import Identity

if TYPE_CHECKING:
    from collections.abc import Callable

Real = npt.NDArray[np.float64]

SEED: Final = 20180726
BOUND: Final = {"guarded": 2.0**-41, "compact": 2.0**-13, "swift": 2.0**-12}
"""About 8 standard deviations of a bulk-enrolled block's score error, by profile."""
PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Report:
    """What one run measured. Sizes in bytes, rates in 10^9 bytes per second."""

    profile: str
    dimension: int
    templates: int
    threads: int
    us_per_comparison: float
    expand_ms: float
    prepare_ms: float
    checks_ms: float
    bytes_per_template: float
    evaluation_key_bytes: int
    query_bytes: int
    result_bytes_per_score: float
    rms_error: float
    max_error: float
    error_bound: float
    gallery_gb_per_s: float
    stream_gb_per_s: float
    hardware: dict[str, str | int]


def main() -> int:
    """Run the benchmark; return the exit code."""
    options = _options()
    profile, dimension = PROFILES[options.profile], padded_dimension(options.dim)
    _say(f"key ceremony, {profile.name}, d={dimension}")
    ceremony = run_sole(profile, dimension, Identity.generate())
    gallery = Gallery(ceremony, options.templates)
    with Evaluator(profile, dimension, ceremony.bundle.keys, options.threads) as evaluator:
        gallery.fill(evaluator)
        report = measure(evaluator, gallery, ceremony, options)
    if options.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        _print_table(report)
    if report.max_error > report.error_bound:
        print(
            f"error: a score is off by {report.max_error:.3g}, bound {report.error_bound:.3g}",
            file=sys.stderr,
        )
        return 1
    return 0


class Gallery:
    """Random unit vectors, and the blocks that hold them encrypted."""

    def __init__(self, ceremony: SoleCeremony, count: int) -> None:
        self.profile = ceremony.bundle.profile
        self.dimension = ceremony.bundle.dimension
        rng = np.random.default_rng(SEED)
        self.templates = _unit(rng.normal(size=(count, self.dimension)))
        self.probe = _unit(self.templates[:1] + 0.05 * rng.normal(size=(1, self.dimension)))[0]
        self.encryptor = Encryptor(self.profile, self.dimension, ceremony.bundle.public_key)
        blocks = -(-count // self.profile.degree)
        shape = tiles_shape(self.profile, self.dimension)
        self.blocks = list(kernel.aligned((blocks, *shape)))
        for block in self.blocks:
            block.fill(0)

    def fill(self, evaluator: Evaluator) -> None:
        """Encrypt all templates, block by block."""
        degree = self.profile.degree
        for number, block in enumerate(self.blocks):
            _say(f"encrypting block {number + 1} of {len(self.blocks)}")
            templates = self.templates[number * degree : (number + 1) * degree]
            for index, column in enumerate(self.encryptor.encrypt_columns(templates)):
                evaluator.add_column(block, index, column.residues, 0)

    @property
    def size(self) -> int:
        """Bytes of all blocks."""
        return sum(block.nbytes for block in self.blocks)


def measure(
    evaluator: Evaluator, gallery: Gallery, ceremony: SoleCeremony, options: argparse.Namespace
) -> Report:
    """Time the engine, and check every score."""
    _say("measuring")
    profile, count = gallery.profile, len(gallery.templates)
    row = gallery.encryptor.encrypt_probe(gallery.probe)
    columns = evaluator.expand(row)
    probe = evaluator.prepare(columns)
    results = evaluator.score_many([probe], gallery.blocks)[0]
    errors = _errors(results, gallery, ceremony)

    def best(action: Callable[[], object]) -> float:
        return _best(action, options.repeat)

    seconds = best(lambda: evaluator.score_many([probe], gallery.blocks))
    keys = ceremony.bundle.keys
    return Report(
        profile=profile.name,
        dimension=gallery.dimension,
        templates=count,
        threads=options.threads,
        us_per_comparison=seconds * 1e6 / count,
        expand_ms=best(lambda: evaluator.expand(row)) * 1e3,
        prepare_ms=best(lambda: evaluator.prepare(columns)) * 1e3,
        checks_ms=best(lambda: evaluator.checks(row, columns)) * 1e3,
        bytes_per_template=gallery.size / len(gallery.blocks) / profile.degree,
        evaluation_key_bytes=keys.relinearisation.nbytes
        + sum(key.nbytes for key in keys.galois.values()),
        query_bytes=wire_size(profile, Kind.PROBE_ROW),
        result_bytes_per_score=wire_size(profile, Kind.RESULT) / profile.degree,
        rms_error=float(np.sqrt(np.mean(errors**2))),
        max_error=float(np.abs(errors).max()),
        error_bound=BOUND[profile.name],
        gallery_gb_per_s=gallery.size / seconds / 1e9,
        stream_gb_per_s=gallery.size / best(lambda: _stream(gallery, options.threads)) / 1e9,
        hardware=_hardware(),
    )


def _errors(results: list[Ciphertext], gallery: Gallery, ceremony: SoleCeremony) -> Real:
    """Decrypted minus plaintext score, for every slot, empty ones (score 0) included."""
    profile = gallery.profile
    level, scale = profile.result_level, profile.result_scale
    primes = profile.data_primes[:level]
    secret = np.ascontiguousarray(ceremony.share.secret[:level])
    found = []
    for result in results:
        masked = kernel.multiply(np.ascontiguousarray(result.residues[1]), secret, primes)
        message = kernel.add(np.ascontiguousarray(result.residues[0]), masked, primes)
        found.append(decode_coefficients(message, profile, level, scale))
    wanted = np.zeros(len(results) * profile.degree)
    wanted[: len(gallery.templates)] = gallery.templates @ gallery.probe
    return np.concatenate(found) - wanted


def _stream(gallery: Gallery, threads: int) -> None:
    """Read the gallery once: the speed of light for one probe."""
    if threads == 1:
        for block in gallery.blocks:
            block.max()
        return
    pieces = [piece for block in gallery.blocks for piece in np.split(block, len(block))]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(np.max, pieces))


def _best(action: Callable[[], object], repeat: int) -> float:
    """Shortest of several runs, in seconds; fewer runs when they take long."""
    times: list[float] = []
    while len(times) < repeat and sum(times) < PATIENCE_SECONDS:
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def _unit(values: Real) -> Real:
    norms: Real = np.linalg.norm(values, axis=1, keepdims=True)
    return values / norms


def _hardware() -> dict[str, str | int]:
    return {
        "cpu": _processor(),
        "cores": os.cpu_count() or 0,
        "machine": platform.machine(),
        "system": platform.system(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in values.items()}
    avx512 = "avx512f" in fields.get("flags", "").split()
    return fields.get("model name", platform.processor()) + (" (AVX-512)" if avx512 else "")


def _print_table(report: Report) -> None:
    for name, value in asdict(report).items():
        if name == "hardware":
            for key, item in report.hardware.items():
                print(f"{key:>24}  {item}")
        elif isinstance(value, float):
            print(f"{name:>24}  {value:.4g}")
        else:
            print(f"{name:>24}  {value}")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profile", choices=sorted(PROFILES), default="guarded")
    parser.add_argument("--dim", type=int, default=512, help="dimension of the templates")
    parser.add_argument("--templates", type=int, default=32768)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=7, help="runs per figure, the best counts")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
