"""Hostile bytes for the bundle's parser and the reader of fixed fields."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.ceremonies import finished
from underseal_core.bundle import parse_bundle
from underseal_core.errors import Damaged, InvalidInput
from underseal_core.scheme.fields import FieldReader

DATA = finished(dimension=2).bundle.to_bytes()


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_any_changed_byte_is_refused(position: int, difference: int) -> None:
    changed = bytearray(DATA)
    changed[position] ^= difference
    with pytest.raises((InvalidInput, Damaged)):
        parse_bundle(bytes(changed))


@given(st.integers(0, len(DATA) - 1))
@settings(max_examples=40, deadline=None)
def test_any_truncation_is_refused(length: int) -> None:
    with pytest.raises(InvalidInput):
        parse_bundle(DATA[:length])


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_bundle(data)
    with pytest.raises(InvalidInput):
        parse_bundle(DATA[:8] + data)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8))
def test_plain_residues_are_read_exactly_when_below_their_primes(values: list[int]) -> None:
    array = np.array(values, dtype="<u4").reshape(2, 4)
    primes = (97, 2**31)
    reader = FieldReader(array.tobytes())
    if max(values[:4]) < 97 and max(values[4:]) < 2**31:
        assert np.array_equal(reader.plain_residues(primes, (2, 4)), array)
        reader.finish()
    else:
        with pytest.raises(InvalidInput):
            reader.plain_residues(primes, (2, 4))


@given(st.binary(max_size=20), st.lists(st.integers(0, 8), max_size=6))
def test_fields_tile_the_message(data: bytes, sizes: list[int]) -> None:
    reader = FieldReader(data)
    if sum(sizes) > len(data):
        with pytest.raises(InvalidInput):
            for size in sizes:
                reader.take(size)
        return
    assert b"".join(reader.take(size) for size in sizes) == data[: sum(sizes)]
    if sum(sizes) == len(data):
        reader.finish()
    else:
        with pytest.raises(InvalidInput):
            reader.finish()
