"""The evaluator end to end: SEAL encrypts, SEAL's decryptor opens."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.oracles.blocks import laid_out
from tests.oracles.seal_evaluation import SealParty, party, uniform, unit_vectors
from underseal_core.errors import InvalidInput, MalformedCiphertext
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext
from underseal_core.scheme.encoding import encode_polynomials
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import (
    EvaluationKeys,
    Evaluator,
    galois_elements,
    tiles_shape,
)
from underseal_core.scheme.profiles import COMPACT, GUARDED, PROFILES, SWIFT, Profile

DIMENSION = 32
BOUND = {"guarded": 2.0**-40, "compact": 2.0**-12, "swift": 2.0**-11}
"""About 12 standard deviations of the noisier kind of block."""


@pytest.fixture(scope="module", params=PROFILES.values(), ids=list(PROFILES))
def seal(request: pytest.FixtureRequest) -> SealParty:
    return party(request.param, DIMENSION)


@pytest.fixture
def evaluator(seal: SealParty) -> Iterator[Evaluator]:
    with Evaluator(seal.profile, seal.dimension, seal.keys, threads=2) as opened:
        yield opened


@pytest.fixture
def encryptor(seal: SealParty) -> Encryptor:
    return seal.encryptor()


def empty_block(profile: Profile, dimension: int = DIMENSION) -> np.ndarray:
    return np.zeros(tiles_shape(profile, dimension), dtype=np.uint32)


def test_expansion_gives_constants(
    seal: SealParty, evaluator: Evaluator, encryptor: Encryptor
) -> None:
    vector = unit_vectors(np.random.default_rng(20), 1, DIMENSION)[0]
    columns = evaluator.expand(encryptor.encrypt_probe(vector))
    for index in (0, 1, DIMENSION - 1):
        opened = seal.open(columns[index], seal.profile.probe_scale)
        assert abs(opened[0] - vector[index]) < 1e-4
        assert np.abs(opened[1:]).max() < 1e-4


def test_a_full_row_fills_every_slot_of_its_raster(
    seal: SealParty, evaluator: Evaluator, encryptor: Encryptor
) -> None:
    rng = np.random.default_rng(21)
    profile = seal.profile
    count = profile.degree // DIMENSION
    templates, vector = unit_vectors(rng, count, DIMENSION), unit_vectors(rng, 1, DIMENSION)[0]
    block = empty_block(profile)
    evaluator.add(block, evaluator.expand(encryptor.encrypt_row(templates)), 5)
    probe = evaluator.prepare(encryptor.encrypt_probe(vector)).probe
    scores = seal.open(evaluator.score(probe, block).residues, profile.result_scale)
    wanted = np.zeros(profile.degree)
    wanted[5::DIMENSION] = templates @ vector
    assert np.abs(scores - wanted).max() < BOUND[profile.name]


def test_slots_beyond_the_last_wrap_with_a_sign(
    seal: SealParty, evaluator: Evaluator, encryptor: Encryptor
) -> None:
    """The reason that callers must keep a row's last slot below the degree."""
    templates = unit_vectors(np.random.default_rng(22), 2, DIMENSION)
    profile = seal.profile
    block = empty_block(profile)
    evaluator.add(block, evaluator.expand(encryptor.encrypt_row(templates)), profile.degree - 1)
    probe = evaluator.prepare(encryptor.encrypt_probe(templates[0])).probe
    scores = seal.open(evaluator.score(probe, block).residues, profile.result_scale)
    assert abs(scores[-1] - 1) < BOUND[profile.name]
    assert abs(scores[DIMENSION - 1] + templates[0] @ templates[1]) < BOUND[profile.name]


def test_bulk_columns_at_an_offset(
    seal: SealParty, evaluator: Evaluator, encryptor: Encryptor
) -> None:
    rng = np.random.default_rng(23)
    templates, vector = unit_vectors(rng, 7, DIMENSION), unit_vectors(rng, 1, DIMENSION)[0]
    profile = seal.profile
    block = empty_block(profile)
    for index, column in enumerate(encryptor.encrypt_columns(templates)):
        evaluator.add_column(block, index, column.residues, 100)
    probe = evaluator.prepare(encryptor.encrypt_probe(vector)).probe
    scores = seal.open(evaluator.score(probe, block).residues, profile.result_scale)
    assert np.abs(scores[100:107] - templates @ vector).max() < BOUND[profile.name]
    assert np.abs(np.delete(scores, range(100, 107))).max() < BOUND[profile.name]


def test_removal_leaves_no_trace(
    seal: SealParty, evaluator: Evaluator, encryptor: Encryptor
) -> None:
    rng = np.random.default_rng(24)
    profile = seal.profile
    primes = profile.data_primes[: profile.gallery_level]
    block = empty_block(profile)
    for i, prime in enumerate(primes):
        block[i] = rng.integers(0, prime, block.shape[1:])
    before = block.copy()
    row = encryptor.encrypt_row(unit_vectors(rng, 3, DIMENSION))
    for offset in (0, 1, 77, profile.degree - 1):
        columns = evaluator.expand(row)
        evaluator.add(block, columns, offset)
        assert not np.array_equal(block, before)
        evaluator.subtract(block, evaluator.expand(row), offset)
        np.testing.assert_array_equal(block, before)
        evaluator.add_column(block, 3, columns[4], offset)
        evaluator.subtract_column(block, 3, columns[4], offset)
        np.testing.assert_array_equal(block, before)


def test_removal_does_not_need_the_order_of_enrolment(
    seal: SealParty, evaluator: Evaluator, encryptor: Encryptor
) -> None:
    rng = np.random.default_rng(25)
    first, second = (
        evaluator.expand(encryptor.encrypt_row(unit_vectors(rng, 2, DIMENSION))) for _ in range(2)
    )
    only_second, both = empty_block(seal.profile), empty_block(seal.profile)
    evaluator.add(only_second, second, 9)
    evaluator.add(both, first, 4)
    evaluator.add(both, second, 9)
    evaluator.subtract(both, first, 4)
    np.testing.assert_array_equal(both, only_second)


def test_columns_one_by_one_are_columns_at_once(seal: SealParty, evaluator: Evaluator) -> None:
    profile = seal.profile
    columns = uniform(np.random.default_rng(26), profile, profile.gallery_level, DIMENSION, 2)
    at_once, one_by_one = empty_block(profile), empty_block(profile)
    evaluator.add(at_once, columns, 11)
    for index, column in enumerate(columns):
        evaluator.add_column(one_by_one, index, column, 11)
    np.testing.assert_array_equal(at_once, one_by_one)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("dimension", [2, 16, DIMENSION])
def test_rows_added_together_are_rows_added_alone(
    seal: SealParty, threads: int, dimension: int
) -> None:
    profile = seal.profile
    rng = np.random.default_rng(dimension)
    offsets = [0, 7, profile.degree - 1]
    rows = [
        Ciphertext(profile, Kind.TEMPLATE_ROW, uniform(rng, profile, profile.fresh_level, 2))
        for _ in offsets
    ]
    tiles = np.zeros(tiles_shape(profile, dimension), dtype=np.uint32)
    together = tiles.copy()
    with Evaluator(profile, dimension, seal.keys, threads) as evaluator:
        several = evaluator.expand_many(rows)
        for row, offset, columns in zip(rows, offsets, several, strict=True):
            np.testing.assert_array_equal(columns, evaluator.expand(row))
            evaluator.add(tiles, columns, offset)
        evaluator.add_rows(together, rows[:1], offsets[:1])
        evaluator.add_rows(together, rows[1:], offsets[1:])
    np.testing.assert_array_equal(together, tiles)


def test_rows_that_do_not_fit_a_block_are_refused() -> None:
    seal = party(SWIFT, DIMENSION)
    row = Ciphertext(SWIFT, Kind.TEMPLATE_ROW, np.zeros((2, 3, SWIFT.degree), dtype=np.uint32))
    probe = Ciphertext(SWIFT, Kind.COLUMN, np.zeros((2, 2, SWIFT.degree), dtype=np.uint32))
    tiles = empty_block(SWIFT)
    with Evaluator(SWIFT, DIMENSION, seal.keys) as evaluator:
        with pytest.raises(InvalidInput, match="one slot each"):
            evaluator.add_rows(tiles, [row], [])
        with pytest.raises(InvalidInput, match="one slot each"):
            evaluator.add_rows(tiles, [], [])
        with pytest.raises(InvalidInput, match="no slot"):
            evaluator.add_rows(tiles, [row], [SWIFT.degree])
        with pytest.raises(InvalidInput, match="shape"):
            evaluator.add_rows(tiles[:1], [row], [0])
        with pytest.raises(MalformedCiphertext):
            evaluator.add_rows(tiles, [probe], [0])
        tiles.flags.writeable = False
        with pytest.raises(InvalidInput, match="read-only"):
            evaluator.add_rows(tiles, [row], [0])


def test_blocks_in_memory_maps(seal: SealParty, evaluator: Evaluator, tmp_path: Path) -> None:
    profile = seal.profile
    rng = np.random.default_rng(27)
    columns = uniform(rng, profile, profile.gallery_level, DIMENSION, 2)
    shape = tiles_shape(profile, DIMENSION)
    mapped = np.memmap(tmp_path / "block", dtype=np.uint32, mode="w+", shape=shape)
    plain = empty_block(profile)
    for block in (mapped, plain):
        evaluator.add(block, columns, 3)
    mapped.flush()
    readonly = np.memmap(tmp_path / "block", dtype=np.uint32, mode="r", shape=shape)
    np.testing.assert_array_equal(readonly, plain)
    probe = laid_out(uniform(rng, profile, profile.gallery_level, DIMENSION, 2), profile)
    np.testing.assert_array_equal(
        evaluator.score(probe, readonly).residues, evaluator.score(probe, plain).residues
    )
    with pytest.raises(InvalidInput, match="read-only"):
        evaluator.add(readonly, columns, 0)


def test_many_probes_and_blocks_at_once(seal: SealParty, evaluator: Evaluator) -> None:
    rng = np.random.default_rng(28)
    profile = seal.profile
    probes = [
        laid_out(uniform(rng, profile, profile.gallery_level, DIMENSION, 2), profile)
        for _ in range(2)
    ]
    blocks = []
    for _ in range(3):
        block = empty_block(profile)
        evaluator.add(block, uniform(rng, profile, profile.gallery_level, DIMENSION, 2), 0)
        blocks.append(block)
    together = evaluator.score_many(probes, blocks)
    for probe, results in zip(probes, together, strict=True):
        for block, result in zip(blocks, results, strict=True):
            np.testing.assert_array_equal(result.residues, evaluator.score(probe, block).residues)


def test_one_thread_and_several_agree(seal: SealParty, encryptor: Encryptor) -> None:
    row = encryptor.encrypt_probe(unit_vectors(np.random.default_rng(29), 1, DIMENSION)[0])
    outcomes = []
    for threads in (1, 3):
        with Evaluator(seal.profile, DIMENSION, seal.keys, threads=threads) as evaluator:
            columns = evaluator.expand(row)
            block = empty_block(seal.profile)
            evaluator.add(block, columns, 1)
            ready = evaluator.prepare(row)
            result = evaluator.score(ready.probe, block)
            found = ready.probe.tiles, ready.norm.residues, result.residues
            outcomes.append((columns, block, *found))
    for one, other in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_evaluator_serves_several_callers(
    seal: SealParty, evaluator: Evaluator, encryptor: Encryptor
) -> None:
    rng = np.random.default_rng(30)
    rows = [encryptor.encrypt_probe(unit_vectors(rng, 1, DIMENSION)[0]) for _ in range(4)]
    alone = [evaluator.expand(row) for row in rows]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(evaluator.expand, rows))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_norm_of_an_honest_probe(
    seal: SealParty, evaluator: Evaluator, encryptor: Encryptor
) -> None:
    vector = unit_vectors(np.random.default_rng(31), 1, DIMENSION)[0]
    norm = evaluator.prepare(encryptor.encrypt_probe(vector)).norm
    assert norm.kind is Kind.NORM
    squared = seal.open(norm.residues, seal.profile.norm_scale)
    assert abs(squared[0] - 1) < 1e-4
    assert np.abs(squared[1:]).max() < 1e-4


def test_norm_shows_a_long_probe(
    seal: SealParty, evaluator: Evaluator, encryptor: Encryptor
) -> None:
    """A client whose own encoder does not insist on unit vectors."""
    profile = seal.profile
    vector = unit_vectors(np.random.default_rng(32), 1, DIMENSION)[0]
    honest = encryptor.encrypt_probe(vector)
    rest = np.zeros(profile.degree)
    rest[:DIMENSION] = 0.3 * vector
    scale = Kind.PROBE_ROW.scale(profile, DIMENSION)
    message = encode_polynomials(rest, profile, profile.fresh_level, scale)
    longer = honest.residues.copy()
    longer[0] = kernel.add(longer[0], message, profile.data_primes)
    row = Ciphertext(profile, Kind.PROBE_ROW, longer)
    norm = evaluator.prepare(row).norm
    assert abs(seal.open(norm.residues, profile.norm_scale)[0] - 1.69) < 1e-3


@pytest.mark.parametrize("dimension", [2, 4, 8, 16, 64, 1024])
def test_every_dimension(dimension: int) -> None:
    seal = party(SWIFT, dimension)
    rng = np.random.default_rng(dimension)
    templates = unit_vectors(rng, min(3, SWIFT.degree // dimension), dimension)
    encryptor = seal.encryptor()
    block = empty_block(SWIFT, dimension)
    with Evaluator(SWIFT, dimension, seal.keys, threads=2) as evaluator:
        evaluator.add(block, evaluator.expand(encryptor.encrypt_row(templates)), 1)
        probe = evaluator.prepare(encryptor.encrypt_probe(templates[0])).probe
        scores = seal.open(evaluator.score(probe, block).residues, SWIFT.result_scale)
    wanted = np.zeros(SWIFT.degree)
    wanted[1 : 1 + dimension * len(templates) : dimension] = templates @ templates[0]
    assert np.abs(scores - wanted).max() < BOUND["swift"]


def test_results_survive_the_wire(
    seal: SealParty, evaluator: Evaluator, encryptor: Encryptor
) -> None:
    row = encryptor.encrypt_probe(unit_vectors(np.random.default_rng(34), 1, DIMENSION)[0])
    ready = evaluator.prepare(row)
    result = evaluator.score(ready.probe, empty_block(seal.profile))
    for ciphertext in (result, ready.norm):
        parsed = parse_ciphertext(ciphertext.to_bytes(), seal.profile, ciphertext.kind)
        np.testing.assert_array_equal(parsed.residues, ciphertext.residues)


def test_keys_that_do_not_fit_are_refused() -> None:
    seal = party(SWIFT, DIMENSION)
    keys = seal.keys
    with pytest.raises(InvalidInput, match="Galois key"):
        Evaluator(SWIFT, 2 * DIMENSION, keys)
    with pytest.raises(InvalidInput, match="evaluation key"):
        Evaluator(COMPACT, DIMENSION, keys)
    too_large = keys.relinearisation.copy()
    too_large[0, 0, 0, 0] = SWIFT.data_primes[0]
    with pytest.raises(InvalidInput, match="below its prime"):
        Evaluator(SWIFT, DIMENSION, EvaluationKeys(too_large, keys.galois))
    for dimension in (0, 1, 3, 48, 2048):
        with pytest.raises(InvalidInput, match="dimension"):
            Evaluator(SWIFT, dimension, keys)
    with pytest.raises(InvalidInput, match="threads"):
        Evaluator(SWIFT, DIMENSION, keys, threads=0)


def test_arrays_that_do_not_fit_are_refused() -> None:
    seal = party(SWIFT, DIMENSION)
    columns = np.zeros((DIMENSION, 2, SWIFT.gallery_level, SWIFT.degree), dtype=np.uint32)
    block = empty_block(SWIFT)
    with Evaluator(SWIFT, DIMENSION, seal.keys) as evaluator:
        probe = laid_out(columns, SWIFT)
        bad: list[np.ndarray] = [
            columns[1:],
            columns[..., ::2],
            columns.astype(np.int64),
            columns[0],
        ]
        for wrong in bad:
            with pytest.raises(InvalidInput):
                evaluator.add(block, wrong, 0)
        bad = [block[1:], block[..., :8], block.astype(np.int32), columns]
        for wrong in bad:
            with pytest.raises(InvalidInput):
                evaluator.score(probe, wrong)
            with pytest.raises(InvalidInput):
                evaluator.add(wrong, columns, 0)
        for index in (-1, DIMENSION):
            with pytest.raises(InvalidInput, match="outside"):
                evaluator.add_column(block, index, columns[0], 0)
        for offset in (-1, SWIFT.degree):
            with pytest.raises(InvalidInput, match="slot"):
                evaluator.add(block, columns, offset)
    assert not block.any()


def test_ciphertexts_that_do_not_fit_are_refused() -> None:
    seal = party(SWIFT, DIMENSION)
    rng = np.random.default_rng(35)
    fresh = uniform(rng, SWIFT, SWIFT.fresh_level, 2)
    with Evaluator(SWIFT, DIMENSION, seal.keys) as evaluator:
        with pytest.raises(MalformedCiphertext, match="row"):
            evaluator.expand(Ciphertext(SWIFT, Kind.COLUMN, fresh[:, :2].copy()))
        with pytest.raises(MalformedCiphertext, match="profile"):
            other = uniform(rng, GUARDED, GUARDED.fresh_level, 2)
            evaluator.expand(Ciphertext(GUARDED, Kind.PROBE_ROW, other))
        with pytest.raises(InvalidInput, match="shape"):
            evaluator.expand(Ciphertext(SWIFT, Kind.PROBE_ROW, fresh[:1]))
        fresh[0, 0, 0] = SWIFT.data_primes[0]
        with pytest.raises(InvalidInput, match="below its prime"):
            evaluator.expand(Ciphertext(SWIFT, Kind.PROBE_ROW, fresh))


def test_elements_are_those_of_the_expansion() -> None:
    assert galois_elements(SWIFT, 8) == (4097, 2049, 1025)
    assert galois_elements(COMPACT, 2) == (8193,)
