"""The engine on encrypted data, with every score checked against the plaintext.

    python -m benchmarks.engine [--profile guarded] [--dim 512] [--templates 32768] [--threads 1]
                                [--probes 16] [--distinct 8] [--repeat 7] [--json]

Runs a key ceremony, encrypts a gallery in bulk and some probes, expands, scores all blocks for one
probe and for all of them together, opens the results and compares. Reading the gallery in order,
and multiplying words in registers, are measured in turn with the scores: the limits of the machine
(docs/explanation/roofline.md). Times are the best of several runs: what the machine does when
nothing else disturbs it. Exit code 1 when any score is off by more than the profile's bound.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.accuracy import BOUND, opened
from benchmarks.inputs import Inputs, inputs
from benchmarks.limits import Limits
from benchmarks.record import Program, say
from benchmarks.timing import best, best_of_each
from underseal_auditor.keys.ceremony import SoleCeremony, run_sole
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind, wire_size
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import EvaluationKeys, Evaluator, Probe, tiles_shape
from underseal_core.scheme.profiles import PROFILES, padded_dimension
from underseal_core.signing import Identity

if TYPE_CHECKING:
    from benchmarks.accuracy import Real


@dataclass(frozen=True)
class Report:
    """What one run measured. Sizes in bytes, rates in 10^9 bytes per second.

    ``share_of_stream``: bytes of the gallery that one probe's scores take in a second, of those
    that can be read. ``share_of_multiply``: products that a batch adds up in a second, of those
    that the machine can. ``prepare_ms``: of a probe with its norm, laid out for scoring;
    ``prepare_each_ms``: of each of a batch.
    """

    profile: str
    dimension: int
    templates: int
    threads: int
    us_per_comparison: float
    batch_probes: int
    batch_us_per_comparison: float
    expand_ms: float
    prepare_ms: float
    prepare_each_ms: float
    bytes_per_template: float
    evaluation_key_bytes: int
    query_bytes: int
    result_bytes_per_score: float
    rms_error: float
    max_error: float
    error_bound: float
    gallery_gb_per_s: float
    stream_gb_per_s: float
    share_of_stream: float
    multiplications_per_comparison: int
    multiply_g_per_s: float
    share_of_multiply: float


@dataclass(frozen=True)
class Speeds:
    """Seconds of the scores of one probe and of a batch, and to read; products per second."""

    one: float
    batch: float
    stream: float
    multiply: float


def main() -> int:
    """Run the benchmark; return the exit code."""
    program = _program()
    options = program.parse()
    profile, dimension = PROFILES[options.profile], padded_dimension(options.dim)
    say(f"key ceremony, {profile.name}, d={dimension}")
    ceremony = run_sole(profile, dimension, Identity.generate())
    encrypted = min(options.templates, options.distinct * profile.degree)
    gallery = Gallery(ceremony, inputs(encrypted, dimension), options.templates)
    with Evaluator(profile, dimension, ceremony.bundle.keys, options.threads) as evaluator:
        gallery.fill(evaluator)
        report = measure(evaluator, gallery, ceremony, options)
    wrong = f"a score is off by {report.max_error:.3g}, bound {report.error_bound:.3g}"
    return program.finish(options, report, [wrong] if report.max_error > report.error_bound else [])


class Gallery:
    """Random unit vectors, and the blocks that hold them encrypted.

    Parameters
    ----------
    ceremony
        The keys.
    given
        Templates of the blocks that are encrypted, and a probe.
    count
        Templates in all. Blocks beyond those that ``given`` fills are copies of them, in memory of
        their own: as much to read and to multiply, and no time to encrypt.
    """

    def __init__(self, ceremony: SoleCeremony, given: Inputs, count: int | None = None) -> None:
        self.count = len(given.templates) if count is None else count
        self.profile = ceremony.bundle.profile
        self.dimension = ceremony.bundle.dimension
        self.templates, self.probe = given.templates, given.probe
        self.encryptor = Encryptor(self.profile, self.dimension, ceremony.bundle.public_key)
        blocks = -(-self.count // self.profile.degree)
        shape = tiles_shape(self.profile, self.dimension)
        self.blocks = list(kernel.aligned((blocks, *shape)))
        for block in self.blocks:
            block.fill(0)

    def fill(self, evaluator: Evaluator) -> None:
        """Encrypt all templates, block by block."""
        degree = self.profile.degree
        distinct = -(-len(self.templates) // degree)
        for number, block in enumerate(self.blocks):
            if number >= distinct:
                np.copyto(block, self.blocks[number % distinct])
                continue
            say(f"encrypting block {number + 1} of {distinct}")
            templates = self.templates[number * degree : (number + 1) * degree]
            for index, column in enumerate(self.encryptor.encrypt_columns(templates)):
                evaluator.add_column(block, index, column.residues, 0)

    def scores(self, probe: Real) -> Real:
        """Return what every slot must give: 0 for those that are empty."""
        degree, distinct = self.profile.degree, self.templates @ probe
        whole = np.zeros(-(-len(distinct) // degree) * degree)
        whole[: len(distinct)] = distinct
        return np.resize(whole, self.slots)

    def probes(self, count: int) -> list[Real]:
        """Return unit vectors to search for: the one of the inputs, then templates."""
        others = np.resize(self.templates, (count - 1, self.dimension))
        return [self.probe, *others]

    @property
    def slots(self) -> int:
        """Templates that the blocks have room for."""
        return len(self.blocks) * self.profile.degree

    @property
    def size(self) -> int:
        """Bytes of all blocks."""
        return sum(block.nbytes for block in self.blocks)


def key_bytes(keys: EvaluationKeys) -> int:
    """Return the size of the evaluator's keys."""
    return keys.relinearisation.nbytes + sum(key.nbytes for key in keys.galois.values())


def measure(
    evaluator: Evaluator, gallery: Gallery, ceremony: SoleCeremony, options: argparse.Namespace
) -> Report:
    """Time the engine, and check every score."""
    say("measuring")
    profile, count, repeat = gallery.profile, gallery.count, options.repeat
    vectors = gallery.probes(options.probes)
    rows = [gallery.encryptor.encrypt_probe(vector) for vector in vectors]
    probes = [one.probe for one in evaluator.prepare_many(rows)]
    results = evaluator.score_many(probes, gallery.blocks)
    found = zip(vectors, results, strict=True)
    errors = np.concatenate([_errors(got, gallery, vector, ceremony) for vector, got in found])
    speeds = _speeds(evaluator, gallery, probes, options)
    products = 4 * gallery.dimension * profile.gallery_level
    return Report(
        profile=profile.name,
        dimension=gallery.dimension,
        templates=count,
        threads=options.threads,
        us_per_comparison=speeds.one * 1e6 / count,
        batch_probes=len(probes),
        batch_us_per_comparison=speeds.batch * 1e6 / count / len(probes),
        expand_ms=best(lambda: evaluator.expand(rows[0]), repeat) * 1e3,
        prepare_ms=best(lambda: evaluator.prepare(rows[0]), repeat) * 1e3,
        prepare_each_ms=best(lambda: evaluator.prepare_many(rows), repeat) * 1e3 / len(rows),
        bytes_per_template=gallery.size / len(gallery.blocks) / profile.degree,
        evaluation_key_bytes=key_bytes(ceremony.bundle.keys),
        query_bytes=wire_size(profile, Kind.PROBE_ROW),
        result_bytes_per_score=wire_size(profile, Kind.RESULT) / profile.degree,
        rms_error=float(np.sqrt(np.mean(errors**2))),
        max_error=float(np.abs(errors).max()),
        error_bound=BOUND[profile.name],
        gallery_gb_per_s=gallery.size / speeds.one / 1e9,
        stream_gb_per_s=gallery.size / speeds.stream / 1e9,
        share_of_stream=speeds.stream / speeds.one,
        multiplications_per_comparison=products,
        multiply_g_per_s=speeds.multiply / 1e9,
        share_of_multiply=products * gallery.slots * len(probes) / speeds.batch / speeds.multiply,
    )


def _speeds(
    evaluator: Evaluator, gallery: Gallery, probes: list[Probe], options: argparse.Namespace
) -> Speeds:
    with Limits(options.threads) as limits:
        one, batch, stream, multiply = best_of_each(
            (
                lambda: evaluator.score_many(probes[:1], gallery.blocks),
                lambda: evaluator.score_many(probes, gallery.blocks),
                lambda: limits.stream(gallery.blocks),
                limits.multiply,
            ),
            options.repeat,
        )
        return Speeds(one, batch, stream, limits.multiply() / multiply)


def _errors(
    results: list[Ciphertext], gallery: Gallery, probe: Real, ceremony: SoleCeremony
) -> Real:
    """Decrypted minus plaintext score, for every slot, empty ones (score 0) included."""
    found = [opened(result, ceremony.share.secret) for result in results]
    return np.concatenate(found) - gallery.scores(probe)


def _program() -> Program:
    program = Program("engine", __doc__)
    parser = program.parser
    parser.add_argument("--profile", choices=sorted(PROFILES), default="guarded")
    parser.add_argument("--dim", type=int, default=512, help="dimension of the templates")
    parser.add_argument("--templates", type=int, default=32768)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--probes", type=int, default=16, help="probes of a batch")
    parser.add_argument("--distinct", type=int, default=8, help="blocks that are encrypted")
    parser.add_argument("--repeat", type=int, default=7, help="runs per figure, the best counts")
    return program


if __name__ == "__main__":
    sys.exit(main())
