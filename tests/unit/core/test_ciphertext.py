from __future__ import annotations

import numpy as np
import pytest

from underseal_core.errors import MalformedCiphertext
from underseal_core.scheme.ciphertext import (
    HEADER_BYTES,
    Ciphertext,
    Kind,
    parse_ciphertext,
    wire_size,
)
from underseal_core.scheme.profiles import GUARDED, PROFILES, SWIFT, Profile


def random_ciphertext(profile: Profile, kind: Kind, seed: int = 1) -> Ciphertext:
    generator = np.random.default_rng(seed)
    primes = np.array(profile.data_primes[: kind.level(profile)])[None, :, None]
    shape = (2, kind.level(profile), profile.degree)
    return Ciphertext(profile, kind, generator.integers(0, primes, shape).astype(np.uint32))


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)
def test_bytes_round_trip(profile: Profile, kind: Kind) -> None:
    ciphertext = random_ciphertext(profile, kind)
    data = ciphertext.to_bytes()
    assert len(data) == wire_size(profile, kind)
    parsed = parse_ciphertext(memoryview(data), profile, kind)
    assert np.array_equal(parsed.residues, ciphertext.residues)
    assert parsed.residues.dtype == np.uint32
    assert parsed.residues.flags.c_contiguous
    assert parsed.to_bytes() == data


def changed(data: bytes, position: int, value: int) -> bytes:
    return data[:position] + bytes([value]) + data[position + 1 :]


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, 0, "not an Underseal ciphertext"),
        (4, GUARDED.wire_id, "not of profile swift"),
        (4, 77, "not of profile swift"),
        (5, Kind.COLUMN, "not a probe_row"),
        (5, 0, "not a probe_row"),
        (6, 3, "3 components"),
        (7, 2, "level 2, wanted 3"),
    ],
)
def test_wrong_header_field_is_refused(position: int, value: int, message: str) -> None:
    data = random_ciphertext(SWIFT, Kind.PROBE_ROW).to_bytes()
    with pytest.raises(MalformedCiphertext, match=message):
        parse_ciphertext(changed(data, position, value), SWIFT, Kind.PROBE_ROW)


@pytest.mark.parametrize("length", [0, 3, HEADER_BYTES - 1, HEADER_BYTES, -4, -1])
def test_truncated_ciphertext_is_refused(length: int) -> None:
    data = random_ciphertext(SWIFT, Kind.RESULT).to_bytes()
    with pytest.raises(MalformedCiphertext):
        parse_ciphertext(data[:length], SWIFT, Kind.RESULT)


def test_oversized_ciphertext_is_refused() -> None:
    data = random_ciphertext(SWIFT, Kind.RESULT).to_bytes()
    with pytest.raises(MalformedCiphertext, match="wanted exactly"):
        parse_ciphertext(data + b"\x00", SWIFT, Kind.RESULT)


@pytest.mark.parametrize("component", [0, 1])
@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("excess", [0, 1])
def test_residue_at_or_above_its_prime_is_refused(component: int, level: int, excess: int) -> None:
    ciphertext = random_ciphertext(SWIFT, Kind.PROBE_ROW)
    ciphertext.residues[component, level, -1] = SWIFT.data_primes[level] - 1
    parse_ciphertext(ciphertext.to_bytes(), SWIFT, Kind.PROBE_ROW)
    ciphertext.residues[component, level, -1] = SWIFT.data_primes[level] + excess
    with pytest.raises(MalformedCiphertext, match="not below its prime"):
        parse_ciphertext(ciphertext.to_bytes(), SWIFT, Kind.PROBE_ROW)


def test_parsed_ciphertext_does_not_follow_the_callers_buffer() -> None:
    original = random_ciphertext(SWIFT, Kind.RESULT)
    buffer = bytearray(original.to_bytes())
    parsed = parse_ciphertext(memoryview(buffer), SWIFT, Kind.RESULT)
    buffer[8:] = b"\xff" * (len(buffer) - 8)
    assert np.array_equal(parsed.residues, original.residues)
