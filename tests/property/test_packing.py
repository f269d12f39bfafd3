"""Packed residues: one stream of bytes per array, one array per stream, by the documented rule."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from underseal_core.errors import InvalidInput
from underseal_core.ring.packing import pack, packed_size, unpack
from underseal_core.scheme.profiles import PROFILES

PRIMES = sorted({p for profile in PROFILES.values() for p in profile.key_primes} | {17, 97, 12289})


def rule(values: npt.NDArray[np.uint32], primes: tuple[int, ...]) -> bytes:
    """The format as it is described: every polynomial is one long little-endian number."""
    out = b""
    for polynomials in values.reshape(-1, len(primes), values.shape[-1]):
        for prime, polynomial in zip(primes, polynomials.tolist(), strict=True):
            bits = (prime - 1).bit_length()
            stream = sum(value << (bits * i) for i, value in enumerate(polynomial))
            out += stream.to_bytes(bits * len(polynomial) // 8, "little")
    return out


@st.composite
def arrays(draw: st.DrawFn) -> tuple[npt.NDArray[np.uint32], tuple[int, ...]]:
    primes = tuple(draw(st.lists(st.sampled_from(PRIMES), min_size=1, max_size=4)))
    length = 8 * draw(st.integers(1, 9))
    seed, largest = draw(st.integers(0, 2**32)), draw(st.booleans())
    bound = np.array(primes)[None, :, None]
    shape = (draw(st.integers(1, 3)), len(primes), length)
    random = np.random.default_rng(seed).integers(0, bound, shape)
    return (np.broadcast_to(bound - 1, shape) if largest else random).astype(np.uint32), primes


@given(arrays())
def test_bytes_are_those_of_the_rule_and_come_back(
    drawn: tuple[npt.NDArray[np.uint32], tuple[int, ...]],
) -> None:
    values, primes = drawn
    data = pack(values, primes).tobytes()
    assert len(data) == packed_size(primes, values.shape)
    assert data == rule(values, primes)
    assert np.array_equal(unpack(data, primes, values.shape), values)


@given(st.sampled_from(PRIMES), st.data())
def test_other_bytes_are_refused_or_another_array(prime: int, data: st.DataObject) -> None:
    """No two streams are read as the same residues: there is no padding to hide anything in."""
    shape = (1, 16)
    size = packed_size((prime,), shape)
    stream = data.draw(st.binary(min_size=size, max_size=size))
    try:
        values = unpack(stream, (prime,), shape)
    except InvalidInput:
        wide = int.from_bytes(stream, "little")
        bits = (prime - 1).bit_length()
        assert any(wide >> (bits * i) & ((1 << bits) - 1) >= prime for i in range(16))
    else:
        assert pack(values, (prime,)).tobytes() == stream


@pytest.mark.parametrize("prime", PRIMES)
@pytest.mark.parametrize("place", [0, 7, 8, 31])
def test_a_residue_at_its_prime_is_neither_written_nor_read(prime: int, place: int) -> None:
    values = np.zeros((1, 32), np.uint32)
    values[0, place] = prime
    with pytest.raises(InvalidInput, match="not below its prime"):
        pack(values, (prime,))
    with pytest.raises(InvalidInput, match="not below its prime"):
        unpack(rule(values, (prime,)), (prime,), (1, 32))


@pytest.mark.parametrize("shape", [(8,), (1, 7), (2, 8), (1, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="shape"):
        pack(np.zeros(shape, np.uint32), (97,))


def test_other_types_and_lengths_are_refused() -> None:
    with pytest.raises(InvalidInput, match="uint32"):
        pack(np.zeros((1, 8), np.int64), (97,))
    for length in (0, 6, 8):
        with pytest.raises(InvalidInput, match="length"):
            unpack(bytes(length), (97,), (1, 8))
