"""The error of a score, measured: the table of scheme.md and what the profiles have."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.oracles.blocks import block_of_rows, bulk_block
from tests.oracles.seal_evaluation import F64, SealParty, party, unit_vectors
from underseal_core.ring import kernel
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import Evaluator, tiles_shape
from underseal_core.scheme.profiles import COMPACT, GUARDED, SWIFT, Profile

DIMENSION = 64
"""The error does not depend on the dimension: that of the probe is shared out, that of a block
has as many terms as its templates have components, each smaller by the same factor."""
ROWS = 8
TOLERANCE = 0.6
"""In bits. What is random is a share of the keys and of one row's noise."""
LARGEST = 6.5
"""In standard deviations; 8192 Gaussian values exceed it once in a million runs."""

TABLE = [
    # profile, probe bits, template bits, bulk-enrolled, filled by one-template rows
    (SWIFT, 27, 23, -16.9, -13.2),
    (COMPACT, 30, 24, -18.8, -13.1),
    (GUARDED, 58, 52, -46.8, -41.2),
    (SWIFT, SWIFT.probe_bits, SWIFT.template_bits, -15.1, -14.6),
    (COMPACT, COMPACT.probe_bits, COMPACT.template_bits, -16.1, -15.6),
    (GUARDED, GUARDED.probe_bits, GUARDED.template_bits, -44.1, -43.7),
]


@pytest.mark.parametrize(
    ("base", "probe_bits", "template_bits", "bulk", "rows"),
    TABLE,
    ids=[f"{row[0].name}-{row[1]}-{row[2]}" for row in TABLE],
)
def test_error_of_scores(
    base: Profile, probe_bits: int, template_bits: int, bulk: float, rows: float
) -> None:
    rng = np.random.default_rng(probe_bits)
    profile = dataclasses.replace(base, probe_bits=probe_bits, template_bits=template_bits)
    seal = party(base, DIMENSION)
    encryptor = Encryptor(profile, DIMENSION, seal.public_key)
    templates = unit_vectors(rng, profile.degree, DIMENSION)
    vector = unit_vectors(rng, 1, DIMENSION)[0]
    with Evaluator(profile, DIMENSION, seal.keys, threads=2) as evaluator:
        probe = evaluator.prepare(encryptor.encrypt_probe(vector)).probe
        block = bulk_block(evaluator, encryptor, templates)
        found = seal.open(evaluator.score(probe, block).residues, profile.result_scale)
        check(found - templates @ vector, bulk)
        owner = rng.permutation(profile.degree) % ROWS
        singles = [template[None] for template in templates[:ROWS]]
        slots = [np.flatnonzero(owner == index) for index in range(ROWS)]
        block = block_of_rows(evaluator, encryptor, singles, slots)
        found = seal.open(evaluator.score(probe, block).residues, profile.result_scale)
        check(found - (templates[:ROWS] @ vector)[owner], rows)


def check(error: F64, wanted: float) -> None:
    measured = float(np.log2(np.sqrt(np.mean(error**2))))
    assert abs(measured - wanted) < TOLERANCE, f"2^{measured:.2f}, wanted 2^{wanted}"
    assert np.abs(error).max() < LARGEST * 2.0 ** (wanted + TOLERANCE)


def test_sum_of_placements_is_a_product() -> None:
    """What block_of_rows relies on."""
    seal: SealParty = party(SWIFT, DIMENSION)
    encryptor = seal.encryptor()
    rng = np.random.default_rng(3)
    primes = SWIFT.data_primes[: SWIFT.gallery_level]
    slots = rng.permutation(SWIFT.degree)[:5]
    ones = np.zeros((len(primes), SWIFT.degree), dtype=np.uint32)
    ones[:, slots] = 1
    with Evaluator(SWIFT, DIMENSION, seal.keys) as evaluator:
        columns = evaluator.expand(encryptor.encrypt_row(unit_vectors(rng, 1, DIMENSION)))
        singly = np.zeros(tiles_shape(SWIFT, DIMENSION), dtype=np.uint32)
        for slot in slots:
            evaluator.add(singly, columns, int(slot))
        places = np.broadcast_to(kernel.ntt_forward(ones, primes), columns.shape)
        placed = kernel.multiply(columns, np.ascontiguousarray(places), primes)
        at_once = np.zeros_like(singly)
        evaluator.add(at_once, placed, 0)
    np.testing.assert_array_equal(singly, at_once)
