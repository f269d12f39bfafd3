"""The kernel against textbook arithmetic, and its boundary."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.oracles import ntt
from tests.oracles.seal_evaluation import uniform
from underseal_core.errors import InvalidInput
from underseal_core.ring import _kernel, kernel
from underseal_core.scheme.profiles import COMPACT, GUARDED, PROFILES, SWIFT, Profile

U32 = np.uint32
SMALL = (97, 193)
"""Primes that are 1 modulo 32: a ring of degree 16."""

profiles = pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))


@profiles
def test_forward_transform_matches_textbook(profile: Profile) -> None:
    primes = profile.key_primes
    rng = np.random.default_rng(1)
    values = rng.integers(0, np.array(primes)[:, None], (3, len(primes), profile.degree)).astype(
        U32
    )
    result = kernel.ntt_forward(values, primes)
    for i, prime in enumerate(primes):
        np.testing.assert_array_equal(result[:, i], ntt.forward(values[:, i], prime))


@profiles
def test_inverse_transform_undoes_forward(profile: Profile) -> None:
    primes = profile.key_primes
    values = (
        np.random.default_rng(2)
        .integers(0, np.array(primes)[:, None], (17, len(primes), profile.degree))
        .astype(U32)
    )
    back = kernel.ntt_inverse(kernel.ntt_forward(values, primes), primes)
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize("degree", [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384])
def test_every_degree(degree: int) -> None:
    prime = next(
        p for p in range(2**28 // (2 * degree) * 2 * degree + 1, 0, -2 * degree) if _is_prime(p)
    )
    values = np.random.default_rng(degree).integers(0, prime, (2, 1, degree)).astype(U32)
    forward = kernel.ntt_forward(values, (prime,))
    np.testing.assert_array_equal(forward[:, 0], ntt.forward(values[:, 0], prime))
    np.testing.assert_array_equal(kernel.ntt_inverse(forward, (prime,)), values)


def test_product_is_negacyclic() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, p, (1, 16)) for p in (97, 97))
    full = np.convolve(a[0], b[0])
    wanted = full[:16].copy()
    wanted[:15] -= full[16:]
    transformed = [kernel.ntt_forward(v.astype(U32), (97,)) for v in (a, b)]
    product = kernel.multiply(transformed[0], transformed[1], (97,))
    np.testing.assert_array_equal(kernel.ntt_inverse(product, (97,))[0], wanted % 97)


@profiles
def test_elementwise_arithmetic(profile: Profile) -> None:
    rng = np.random.default_rng(4)
    primes = profile.data_primes
    a = uniform(rng, profile, profile.fresh_level, 2)
    b = uniform(rng, profile, profile.fresh_level, 2)
    modulus = np.array(primes, dtype=np.uint64)[:, None]
    wide_a, wide_b = a.astype(np.uint64), b.astype(np.uint64)
    np.testing.assert_array_equal(kernel.add(a, b, primes), (wide_a + wide_b) % modulus)
    np.testing.assert_array_equal(
        kernel.subtract(a, b, primes), (wide_a + modulus - wide_b) % modulus
    )
    np.testing.assert_array_equal(kernel.multiply(a, b, primes), wide_a * wide_b % modulus)
    np.testing.assert_array_equal(kernel.negate(a, primes), (modulus - wide_a) % modulus)


def test_transform_leaves_its_input_alone() -> None:
    values = uniform(np.random.default_rng(5), SWIFT, 2)
    before = values.copy()
    values.flags.writeable = False
    kernel.ntt_forward(values, SWIFT.data_primes[:2])
    np.testing.assert_array_equal(values, before)


def test_aligned_arrays_start_on_a_cache_line() -> None:
    for words in range(1, 40):
        array = kernel.aligned((words, 3))
        assert array.shape == (words, 3)
        assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (np.zeros((2, 16), dtype=np.int64), "uint32"),
        (np.zeros((2, 16), dtype=np.float32), "uint32"),
        (np.zeros((2, 32), dtype=U32)[:, ::2], "contiguous"),
        (np.zeros((3, 16), dtype=U32), "shape"),
        (np.zeros(16, dtype=U32), "shape"),
        (np.full((2, 16), 97, dtype=U32), "below its prime"),
    ],
)
def test_bad_arrays_are_refused(values: np.ndarray, complaint: str) -> None:
    for function in (kernel.ntt_forward, kernel.ntt_inverse, kernel.negate):
        with pytest.raises(InvalidInput, match=complaint):
            function(values, SMALL)


def test_operands_must_have_the_same_shape() -> None:
    left, right = np.zeros((2, 16), dtype=U32), np.zeros((1, 2, 16), dtype=U32)
    for function in (kernel.add, kernel.subtract, kernel.multiply):
        with pytest.raises(InvalidInput, match="shape"):
            function(left, right, SMALL)


@pytest.mark.parametrize(
    ("degree", "primes", "complaint"),
    [
        (24, SMALL, "degree"),
        (8, SMALL, "degree"),
        (65536, SMALL, "degree"),
        (16, (), "primes"),
        (16, (97, 97), "differ"),
        (16, (97, 98), "prime"),
        (16, (96 + 65,), "prime"),
        (16, (101,), "prime"),
        (16, (97, 353), "factor of 3"),
        (8192, (1073643521,), "2\\^29"),
        (8192, (2**32 + 15,), "2\\^29"),
        (8192, (-1,), "2\\^29"),
    ],
)
def test_bad_rings_are_refused(degree: int, primes: tuple[int, ...], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        kernel.basis(degree, primes)


def test_native_code_checks_shapes_itself() -> None:
    ring = kernel.basis(16, SMALL)
    good, bad = np.zeros((1, 2, 16), dtype=U32), np.zeros((1, 2, 17), dtype=U32)
    with pytest.raises(ValueError, match="shape"):
        ring.transform(bad, False, bad)
    with pytest.raises(ValueError, match="shape"):
        ring.transform(good, False, np.zeros((2, 2, 16), dtype=U32))
    with pytest.raises(TypeError):
        ring.transform(good.astype(np.uint64), False, good)
    with pytest.raises(ValueError, match="operation"):
        ring.elementwise(3, good, good, good)


def test_native_ciphertext_functions_check_shapes() -> None:
    ring = kernel.basis(16, SMALL)
    key = np.zeros((1, 2, 2, 16), dtype=U32)
    one, two = (np.zeros((2, level, 16), dtype=U32) for level in (1, 2))
    with pytest.raises(ValueError, match="level"):
        _kernel.switch_key(ring, two, np.zeros((2, 2, 2, 16), dtype=U32), two.copy())
    with pytest.raises(ValueError, match="key"):
        _kernel.switch_key(ring, one, key[:, :1], one.copy())
    with pytest.raises(ValueError, match="digits"):
        _kernel.switch_key(ring, one, key[:0], one.copy())
    with pytest.raises(ValueError, match="different memory"):
        _kernel.switch_key(ring, one, key, one)
    with pytest.raises(ValueError, match="ciphertext"):
        _kernel.switch_key(ring, np.zeros((4, 1, 16), dtype=U32), key, one)
    with pytest.raises(ValueError, match="out"):
        _kernel.switch_key(ring, one, key, two)
    with pytest.raises(ValueError, match="ciphertext"):
        _kernel.rescale(ring, one, one.copy())
    with pytest.raises(ValueError, match="out"):
        _kernel.rescale(ring, two, two.copy())


def test_native_expansion_checks_shapes() -> None:
    ring = kernel.basis(16, SMALL)
    key = np.zeros((1, 2, 2, 16), dtype=U32)
    expansion = _kernel.Expansion(ring, [key, key])
    node, out = np.zeros((2, 1, 16), dtype=U32), np.zeros((4, 2, 1, 16), dtype=U32)
    with pytest.raises(ValueError, match="key"):
        _kernel.Expansion(ring, [key[:, :1].copy()])
    with pytest.raises(ValueError, match="more columns"):
        _kernel.Expansion(ring, [key] * 5)
    with pytest.raises(ValueError, match="10 levels"):
        _kernel.Expansion(kernel.basis(16, SMALL), [key] * 11)
    with pytest.raises(ValueError, match="levels"):
        expansion.descend(node, 0, 0, 3, out)
    with pytest.raises(ValueError, match="levels"):
        expansion.descend(node, 0, 2, 1, out)
    with pytest.raises(ValueError, match="node"):
        expansion.descend(node, 2, 1, 2, out)
    with pytest.raises(ValueError, match="out"):
        expansion.descend(node, 0, 0, 2, out[:2].copy())
    with pytest.raises(ValueError, match="level"):
        expansion.descend(node, 0, 0, 2, np.zeros((4, 2, 2, 16), dtype=U32))
    with pytest.raises(ValueError, match="ciphertext"):
        expansion.descend(np.zeros((3, 1, 16), dtype=U32), 0, 0, 2, out)


def test_native_block_functions_check_shapes() -> None:
    ring = kernel.basis(16, SMALL)
    tiles = np.zeros((2, 1, 4, 2, 16), dtype=U32)
    columns = np.zeros((4, 2, 2, 16), dtype=U32)
    out = np.zeros((1, 1, 3, 2, 16), dtype=U32)
    one = _kernel.Power(ring, 2, 0)
    with pytest.raises(ValueError, match="range"):
        _kernel.place(ring, columns, 0, one, tiles, 0, 3)
    with pytest.raises(ValueError, match="range"):
        _kernel.place(ring, columns, 0, one, tiles, 2, 1)
    with pytest.raises(ValueError, match="outside"):
        _kernel.place(ring, columns, 1, one, tiles, 0, 2)
    with pytest.raises(ValueError, match="columns"):
        _kernel.place(ring, columns[:, :, :1].copy(), 0, one, tiles, 0, 2)
    for other in (_kernel.Power(ring, 1, 0), _kernel.Power(kernel.basis(32, (193, 257)), 2, 0)):
        with pytest.raises(ValueError, match="another ring"):
            _kernel.place(ring, columns, 0, other, tiles, 0, 2)
    with pytest.raises(ValueError, match="nothing"):
        _kernel.score(ring, [], [tiles], out, 0, 2)
    with pytest.raises(ValueError, match="block"):
        _kernel.score(ring, [tiles], [tiles[:, :, :2].copy()], out, 0, 2)
    with pytest.raises(ValueError, match="out"):
        _kernel.score(ring, [tiles], [tiles, tiles], out, 0, 2)


def test_native_probes_check_shapes() -> None:
    ring = kernel.basis(16, (*SMALL, 257))
    expansion = _kernel.Expansion(ring, [np.zeros((2, 2, 3, 16), dtype=U32)] * 2)
    node, tiles = np.zeros((2, 2, 16), dtype=U32), np.zeros((2, 1, 4, 2, 16), dtype=U32)
    sums = np.zeros((3, 1, 16), dtype=U32)
    expansion.prepare(node, 0, 0, tiles, sums)
    with pytest.raises(ValueError, match="tiles"):
        expansion.prepare(node, 0, 0, tiles[:, :, :2].copy(), sums)
    with pytest.raises(ValueError, match="sums"):
        expansion.prepare(node, 0, 0, tiles, sums[:2].copy())
    with pytest.raises(ValueError, match="level"):
        expansion.prepare(node, 0, 0, tiles, np.zeros((3, 3, 16), dtype=U32))
    with pytest.raises(ValueError, match="node"):
        expansion.prepare(node, 2, 1, tiles, sums)
    with pytest.raises(ValueError, match="levels"):
        expansion.prepare(node, 0, 3, tiles, sums)


def test_calls_from_many_threads_agree() -> None:
    rng = np.random.default_rng(6)
    inputs = [uniform(rng, COMPACT, 3, 2) for _ in range(8)]
    alone = [kernel.ntt_forward(values, COMPACT.data_primes) for values in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda v: kernel.ntt_forward(v, COMPACT.data_primes), inputs))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_profiles_fit_the_kernel() -> None:
    for profile in (GUARDED, COMPACT, SWIFT):
        assert kernel.basis(profile.degree, profile.key_primes)


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % f for f in range(2, int(n**0.5) + 1))
