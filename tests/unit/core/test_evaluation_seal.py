"""Residue for residue what SEAL computes, in every profile and at every level."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.oracles.blocks import laid_out
from tests.oracles.seal_evaluation import SealParty, party, uniform
from underseal_core.ring import _kernel, kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.evaluation import Evaluator, galois_elements
from underseal_core.scheme.keyswitch import (
    prepare_key,
    relinearise,
    rescale,
    switch_key,
)
from underseal_core.scheme.profiles import PROFILES
from underseal_core.scheme.workers import Workers

DIMENSION = 32


@pytest.fixture(scope="module", params=PROFILES.values(), ids=list(PROFILES))
def seal(request: pytest.FixtureRequest) -> SealParty:
    return party(request.param, DIMENSION)


@pytest.fixture(params=[1, 2], ids=["alone", "threads"])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    pool = Workers(request.param)
    yield pool
    pool.close()


def test_a_node_and_seals_automorphism_of_it_make_a_child(seal: SealParty) -> None:
    rng = np.random.default_rng(10)
    profile = seal.profile
    elements = galois_elements(profile, DIMENSION)
    keys = [prepare_key(seal.keys.galois[element], profile) for element in elements]
    tree = _kernel.Expansion(kernel.basis(profile.degree, profile.key_primes), keys)
    for level in range(1, profile.fresh_level + 1):
        primes = profile.data_primes[:level]
        for step, element in enumerate(elements):
            node = uniform(rng, profile, level, 2)
            below = np.empty((2 << step, *node.shape), dtype=np.uint32)
            tree.descend(node, 0, step, step + 1, below)
            image = kernel.subtract(below[0], node, primes)
            np.testing.assert_array_equal(image, seal.apply_galois(node, element))


def test_multiply_relinearise_rescale_are_seals(seal: SealParty, workers: Workers) -> None:
    rng = np.random.default_rng(11)
    profile = seal.profile
    key = prepare_key(seal.keys.relinearisation, profile)
    for level in range(2, profile.fresh_level + 1):
        left, right = uniform(rng, profile, level, 2), uniform(rng, profile, level, 2)
        product = tensor(left, right, profile.data_primes[:level])
        np.testing.assert_array_equal(product, seal.multiply(left, right))
        two = relinearise(product[None], key, profile, workers)
        np.testing.assert_array_equal(two[0], seal.relinearise(product))
        lower = rescale(two, level - 1, profile, workers)
        np.testing.assert_array_equal(lower[0], seal.rescale(two[0]))


def test_rescale_over_two_primes_is_seals_twice(seal: SealParty, workers: Workers) -> None:
    profile = seal.profile
    batch = uniform(np.random.default_rng(12), profile, profile.fresh_level, 3, 2)
    ours = rescale(batch, profile.fresh_level - 2, profile, workers)
    for one, other in zip(ours, batch, strict=True):
        np.testing.assert_array_equal(one, seal.rescale(seal.rescale(other)))


def test_a_batch_is_computed_like_its_ciphertexts(seal: SealParty, workers: Workers) -> None:
    """More ciphertexts than a thread takes at a time, not a multiple of it."""
    profile = seal.profile
    key = prepare_key(seal.keys.relinearisation, profile)
    batch = uniform(np.random.default_rng(13), profile, 1, 19, 2)
    together = switch_key(batch, key, profile, workers)
    for i in (0, 15, 16, 18):
        alone = switch_key(batch[i : i + 1], key, profile, workers)
        np.testing.assert_array_equal(together[i], alone[0])


def test_expansion_is_made_of_seals_operations(seal: SealParty) -> None:
    profile = seal.profile
    row = uniform(np.random.default_rng(14), profile, profile.fresh_level, 2)
    with Evaluator(profile, DIMENSION, seal.keys, threads=2) as evaluator:
        ours = evaluator.expand(Ciphertext(profile, Kind.PROBE_ROW, row))
    nodes = [row]
    for level, element in enumerate(galois_elements(profile, DIMENSION)):
        turned = [seal.apply_galois(node, element) for node in nodes]
        pairs = list(zip(nodes, turned, strict=True))
        sums = [kernel.add(c, s, profile.data_primes) for c, s in pairs]
        differences = [
            shifted(kernel.subtract(c, s, profile.data_primes), -(1 << level), seal)
            for c, s in pairs
        ]
        nodes = sums + differences
    for column, node in zip(ours, nodes, strict=True):
        np.testing.assert_array_equal(column, seal.rescale(node))


def test_score_is_made_of_seals_operations(seal: SealParty) -> None:
    rng = np.random.default_rng(15)
    profile, level = seal.profile, seal.profile.gallery_level
    probe, gallery = (uniform(rng, profile, level, DIMENSION, 2) for _ in range(2))
    tiles = np.zeros((level, profile.degree // 16, DIMENSION, 2, 16), dtype=np.uint32)
    with Evaluator(profile, DIMENSION, seal.keys) as evaluator:
        evaluator.add(tiles, gallery, 0)
        ours = evaluator.score(laid_out(probe, profile), tiles)
    primes = profile.data_primes[:level]
    total = np.zeros((3, level, profile.degree), dtype=np.uint32)
    for left, right in zip(probe, gallery, strict=True):
        total = kernel.add(total, seal.multiply(left, right), primes)
    wanted = seal.relinearise(total)
    for _ in range(level - profile.result_level):
        wanted = seal.rescale(wanted)
    assert ours.kind is Kind.RESULT
    np.testing.assert_array_equal(ours.residues, wanted)


def tensor(left: np.ndarray, right: np.ndarray, primes: tuple[int, ...]) -> np.ndarray:
    middle = kernel.add(
        kernel.multiply(left[0], right[1], primes),
        kernel.multiply(left[1], right[0], primes),
        primes,
    )
    ends = (kernel.multiply(left[c], right[c], primes) for c in (0, 1))
    first, last = ends
    return np.stack((first, middle, last))


def shifted(ciphertext: np.ndarray, power: int, seal: SealParty) -> np.ndarray:
    """Multiply by ``X^power``, by moving coefficients."""
    primes = seal.profile.data_primes[: ciphertext.shape[1]]
    degree = seal.profile.degree
    coefficients = kernel.ntt_inverse(ciphertext, primes)
    power %= 2 * degree
    if power >= degree:
        coefficients, power = kernel.negate(coefficients, primes), power - degree
    wrapped = _negated(coefficients[..., degree - power :], primes)
    moved = np.concatenate((wrapped, coefficients[..., : degree - power]), axis=-1)
    return kernel.ntt_forward(np.ascontiguousarray(moved), primes)


def _negated(values: np.ndarray, primes: tuple[int, ...]) -> np.ndarray:
    modulus = np.array(primes, dtype=np.uint32)[:, None]
    return np.where(values == 0, values, modulus - values)
