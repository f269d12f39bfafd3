"""Hostile bytes: the parsers answer with their own error or with exactly what was sent."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core.test_ciphertext import random_ciphertext
from underseal_core.errors import MalformedCiphertext
from underseal_core.scheme.ciphertext import Kind, parse_ciphertext, wire_size
from underseal_core.scheme.profiles import PROFILES, SWIFT, Profile

RESULT = random_ciphertext(SWIFT, Kind.RESULT).to_bytes()


def parse(data: bytes, kind: Kind = Kind.RESULT) -> bytes | None:
    try:
        return parse_ciphertext(data, SWIFT, kind).to_bytes()
    except MalformedCiphertext:
        return None


@given(st.binary(max_size=64), st.sampled_from(list(Kind)))
def test_short_bytes_are_refused(data: bytes, kind: Kind) -> None:
    assert parse(data, kind) is None


@given(st.integers(0, len(RESULT) - 1), st.integers(0, 255))
@settings(max_examples=200)
def test_changed_byte_is_refused_or_kept(position: int, value: int) -> None:
    data = RESULT[:position] + bytes([value]) + RESULT[position + 1 :]
    parsed = parse(data)
    assert parsed in (None, data)
    if position < 8 and data != RESULT:
        assert parsed is None


@given(st.integers(0, len(RESULT) - 1), st.binary(max_size=16))
def test_cut_and_spliced_bytes_are_refused(length: int, tail: bytes) -> None:
    if len(RESULT[:length] + tail) != len(RESULT):
        assert parse(RESULT[:length] + tail) is None


@given(st.sampled_from(list(PROFILES.values())), st.sampled_from(list(Kind)), st.integers(0, 2**32))
@settings(max_examples=25)
def test_round_trip(profile: Profile, kind: Kind, seed: int) -> None:
    data = random_ciphertext(profile, kind, seed).to_bytes()
    assert len(data) == wire_size(profile, kind)
    assert parse_ciphertext(data, profile, kind).to_bytes() == data
