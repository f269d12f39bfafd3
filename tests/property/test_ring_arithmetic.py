"""Arithmetic at its edges: 0, p - 1, and lazy sums as full as they get."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.blocks import tiles_of
from underseal_core.ring import _kernel, kernel
from underseal_core.scheme.profiles import MAX_DIMENSION

DEGREE = 16
DIGITS = 7
"""Data primes of the longest chain that the kernel takes."""
U32 = npt.NDArray[np.uint32]


@cache
def primes_below(limit: int, count: int) -> tuple[int, ...]:
    """Return the largest primes below a limit that a ring of degree 16 has."""
    found: list[int] = []
    candidate = (limit - 2) // 32 * 32 + 1
    while len(found) < count:
        if all(candidate % f for f in range(3, int(candidate**0.5) + 1, 2)):
            found.append(candidate)
        candidate -= 32
    return tuple(found)


LARGE = primes_below(2**29, DIGITS + 1)
CHAINS = (LARGE, primes_below(2**28, 4), (primes_below(2**28, 1)[0], LARGE[0]), (97, 193))


def pattern(draw: st.DrawFn, shape: tuple[int, ...], primes: tuple[int, ...]) -> U32:
    """Residues ``(*shape, primes, DEGREE)``: all zero, all p - 1, or a mixture with random ones."""
    modulus = np.array(primes, dtype=np.uint32)[:, None]
    size = (*shape, len(primes), DEGREE)
    kind = draw(st.sampled_from(["zero", "largest", "mixed"]))
    if kind == "zero":
        return np.zeros(size, dtype=np.uint32)
    largest = np.broadcast_to(modulus - 1, size)
    if kind == "largest":
        return np.ascontiguousarray(largest)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    choice = rng.integers(0, 4, size)
    uniform = rng.integers(0, modulus, size)
    return np.select(
        [choice == 0, choice == 1, choice == 2], [np.zeros(size), largest, uniform], 1
    ).astype(np.uint32)


patterns = st.composite(pattern)


@given(st.data(), st.sampled_from(CHAINS))
def test_elementwise_is_exact(data: st.DataObject, primes: tuple[int, ...]) -> None:
    a, b = (data.draw(patterns((2,), primes)) for _ in range(2))
    modulus = np.array(primes, dtype=object)[:, None]
    big_a, big_b = a.astype(object), b.astype(object)
    assert (kernel.add(a, b, primes) == (big_a + big_b) % modulus).all()
    assert (kernel.subtract(a, b, primes) == (big_a - big_b) % modulus).all()
    assert (kernel.multiply(a, b, primes) == big_a * big_b % modulus).all()
    assert (kernel.negate(a, primes) == -big_a % modulus).all()


@given(st.data(), st.sampled_from(CHAINS))
def test_transform_is_evaluation(data: st.DataObject, primes: tuple[int, ...]) -> None:
    """Position ``i`` holds the value at ``psi^(2 brv(i) + 1)``; and back."""
    values = data.draw(patterns((), primes))
    transformed = kernel.ntt_forward(values, primes)
    for row, coefficients, prime in zip(transformed, values, primes, strict=True):
        psi = min(roots(prime))
        for i in (0, 1, 7, 15):
            point = pow(psi, 2 * int(f"{i:04b}"[::-1], 2) + 1, prime)
            wanted = sum(int(c) * pow(point, k, prime) for k, c in enumerate(coefficients))
            assert row[i] == wanted % prime
    np.testing.assert_array_equal(kernel.ntt_inverse(transformed, primes), values)


@cache
def roots(prime: int) -> tuple[int, ...]:
    """All primitive 32nd roots of unity."""
    base = next(
        r for g in range(2, prime) if pow(r := pow(g, prime // 32, prime), 16, prime) == prime - 1
    )
    return tuple(pow(base, k, prime) for k in range(1, 32, 2))


@settings(deadline=None)
@given(
    st.data(),
    st.sampled_from([LARGE[:2], primes_below(2**28, 2)]),
    st.sampled_from([2, 64, 128, 256, MAX_DIMENSION]),
)
def test_lazy_sums_of_scores_do_not_overflow(
    data: st.DataObject, primes: tuple[int, ...], dimension: int
) -> None:
    ring = kernel.basis(DEGREE, primes)
    shape = (len(primes), 1, dimension, 2, DEGREE)
    columns = [data.draw(patterns((dimension, 2), primes)) for _ in range(2)]
    probe, block = tiles_of(columns[0], primes), np.zeros(shape, dtype=np.uint32)
    _kernel.place(ring, columns[1], 0, _kernel.Power(ring, len(primes), 0), block, 0, len(primes))
    out = np.zeros((1, 1, 3, len(primes), DEGREE), dtype=np.uint32)
    _kernel.score(ring, [probe], [block], out, 0, len(primes))
    q, g = (values.astype(object) for values in columns)
    modulus = np.array(primes, dtype=object)[:, None]
    wanted = [q[:, 0] * g[:, 0], q[:, 0] * g[:, 1] + q[:, 1] * g[:, 0], q[:, 1] * g[:, 1]]
    for component, terms in zip(out[0, 0], wanted, strict=True):
        assert (component == terms.sum(axis=0) % modulus).all()


@settings(deadline=None)
@given(st.data(), st.integers(0, 4), st.integers(1, 2))
def test_probes_and_their_norms_are_exact(
    data: st.DataObject, depth: int, check_level: int
) -> None:
    """Against the columns of the same expansion."""
    ring, level, dimension = kernel.basis(DEGREE, LARGE[:4]), 2, 1 << depth
    row = data.draw(patterns((2,), LARGE[:3]))
    keys = [data.draw(patterns((3, 2), LARGE[:4])) for _ in range(depth)]
    expansion = _kernel.Expansion(ring, keys)
    columns = np.zeros((dimension, 2, level, DEGREE), dtype=np.uint32)
    expansion.descend(row, 0, 0, depth, columns)
    tiles = np.zeros((level, 1, dimension, 2, DEGREE), dtype=np.uint32)
    sums = np.zeros((3, check_level, DEGREE), dtype=np.uint32)
    expansion.prepare(row, 0, 0, tiles, sums)
    np.testing.assert_array_equal(tiles, tiles_of(columns, LARGE[:level]))
    lower = np.zeros((dimension, 2, check_level, DEGREE), dtype=np.uint32)
    for column, out in zip(columns, lower, strict=True):
        if check_level == level:
            out[...] = column
        else:
            _kernel.rescale(ring, column, out)
    q = lower.astype(object)
    squares = [q[:, 0] * q[:, 0], 2 * q[:, 0] * q[:, 1], q[:, 1] * q[:, 1]]
    modulus = np.array(LARGE[:check_level], dtype=object)[:, None]
    for component, terms in zip(sums, squares, strict=True):
        assert (component == terms.sum(axis=0) % modulus).all()


@settings(deadline=None)
@given(st.data(), st.integers(1, DIGITS))
def test_key_switching_does_not_overflow(data: st.DataObject, level: int) -> None:
    """With the longest chain of the largest primes, against SEAL's formula in big integers."""
    ring = kernel.basis(DEGREE, LARGE)
    ciphertext = data.draw(patterns((2,), LARGE[:level]))
    key = data.draw(patterns((DIGITS, 2), LARGE))
    scaled, ours = np.zeros_like(key), np.zeros_like(ciphertext)
    ring.scale_key(key, scaled)
    _kernel.switch_key(ring, ciphertext, scaled, ours)
    np.testing.assert_array_equal(ours, switched(ciphertext, key, level))


def switched(ciphertext: U32, key: U32, level: int) -> U32:
    """``(c0 + round(sum_j [c1]_qj key_j0 / P), round(sum_j [c1]_qj key_j1 / P))``."""
    special = LARGE[-1]
    digits = kernel.ntt_inverse(ciphertext[1], LARGE[:level])
    result = np.zeros_like(ciphertext)
    for c in range(2):
        sums = {}
        for i in (*range(level), len(LARGE) - 1):
            prime = LARGE[i]
            total = np.zeros(DEGREE, dtype=object)
            for j in range(level):
                transformed = kernel.ntt_forward((digits[j] % prime)[None], (prime,))[0]
                total += transformed.astype(object) * key[j, c, i].astype(object)
            sums[i] = kernel.ntt_inverse((total % prime).astype(np.uint32)[None], (prime,))[0]
        remainder = (sums[len(LARGE) - 1].astype(object) + special // 2) % special - special // 2
        for i in range(level):
            prime = LARGE[i]
            quotient = (sums[i].astype(object) - remainder) * pow(special, -1, prime) % prime
            value = kernel.ntt_forward(quotient.astype(np.uint32)[None], (prime,))[0]
            base = ciphertext[0, i].astype(object) if c == 0 else 0
            result[c, i] = (base + value) % prime
    return result


@settings(deadline=None)
@given(st.data(), st.integers(0, 2**32))
def test_add_then_subtract_is_the_identity(data: st.DataObject, seed: int) -> None:
    primes = LARGE[:2]
    ring = kernel.basis(DEGREE, primes)
    columns = data.draw(patterns((4, 2), primes))
    power = data.draw(st.integers(0, 2 * DEGREE - 1))
    rng = np.random.default_rng(seed)
    block = np.stack([rng.integers(0, p, (1, 4, 2, DEGREE)) for p in primes]).astype(np.uint32)
    before = block.copy()
    for exponent in (power, (power + DEGREE) % (2 * DEGREE)):
        _kernel.place(ring, columns, 0, _kernel.Power(ring, 2, exponent), block, 0, 2)
    np.testing.assert_array_equal(block, before)


@given(st.integers(1, 64), st.lists(st.integers(0, 64), max_size=4))
def test_pieces_of_a_range_add_up(dimension: int, cuts: list[int]) -> None:
    """Scoring in pieces, as threads do, is scoring at once."""
    degree = 512
    ring = kernel.basis(degree, primes_512())
    rng = np.random.default_rng(dimension)
    shape = (2, degree // 16, dimension, 2, 16)
    tiles = [rng.integers(0, 97, shape).astype(np.uint32) for _ in range(2)]
    whole = np.zeros((1, 1, 3, 2, degree), dtype=np.uint32)
    pieces = np.zeros_like(whole)
    _kernel.score(ring, tiles[:1], tiles[1:], whole, 0, 64)
    for begin, end in pairwise(sorted({0, 64, *cuts})):
        _kernel.score(ring, tiles[:1], tiles[1:], pieces, begin, end)
    np.testing.assert_array_equal(whole, pieces)


@cache
def primes_512() -> tuple[int, int]:
    """Two primes for a ring of degree 512."""
    found = [
        p for p in range(2**20 + 1, 2**21, 1024) if all(p % f for f in range(3, int(p**0.5) + 1, 2))
    ]
    return found[0], found[1]
