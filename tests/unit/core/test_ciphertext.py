from __future__ import annotations

import hashlib

import numpy as np
import pytest

from underseal_core.errors import InvalidInput, MalformedCiphertext
from underseal_core.scheme.ciphertext import (
    HEADER_BYTES,
    Ciphertext,
    Kind,
    parse_ciphertext,
    parse_plain_ciphertext,
    plain_sha256,
    plain_size,
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


def packed_anyway(ciphertext: Ciphertext) -> bytes:
    """Pack residues that fit their bits, but are not below their primes, by the rule itself."""
    stream = 0
    for number, value in enumerate(ciphertext.residues.reshape(-1).tolist()):
        stream |= value << (26 * number)
    size = wire_size(ciphertext.profile, ciphertext.kind) - HEADER_BYTES
    honest = random_ciphertext(ciphertext.profile, ciphertext.kind)
    return honest.to_bytes()[:HEADER_BYTES] + stream.to_bytes(size, "little")


def plain_form(ciphertext: Ciphertext) -> bytes:
    class Kept:
        data = b""

        def update(self, data: memoryview | bytes, /) -> None:
            self.data += bytes(data)

    kept = Kept()
    ciphertext.hash_plain(kept)
    return kept.data


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
    with pytest.raises(InvalidInput, match="not below its prime"):
        ciphertext.to_bytes()
    with pytest.raises(MalformedCiphertext, match="not below its prime"):
        parse_ciphertext(packed_anyway(ciphertext), SWIFT, Kind.PROBE_ROW)
    with pytest.raises(MalformedCiphertext, match="not below its prime"):
        parse_plain_ciphertext(plain_form(ciphertext), SWIFT, Kind.PROBE_ROW)


def test_plain_form_is_header_and_words() -> None:
    ciphertext = random_ciphertext(SWIFT, Kind.COLUMN)
    header = b"USC1" + bytes((SWIFT.wire_id, Kind.COLUMN, 2, SWIFT.gallery_level))
    data = plain_form(ciphertext)
    assert data == header + ciphertext.residues.astype("<u4").tobytes()
    assert len(data) == plain_size(SWIFT, Kind.COLUMN)
    parsed = parse_plain_ciphertext(data, SWIFT, Kind.COLUMN)
    assert np.array_equal(parsed.residues, ciphertext.residues)
    assert plain_sha256([ciphertext, parsed]) == hashlib.sha256(data + data).digest()


@pytest.mark.parametrize("kind", Kind)
def test_neither_form_is_taken_for_the_other(kind: Kind) -> None:
    ciphertext = random_ciphertext(SWIFT, kind)
    with pytest.raises(MalformedCiphertext, match="not an Underseal ciphertext"):
        parse_ciphertext(plain_form(ciphertext), SWIFT, kind)
    with pytest.raises(MalformedCiphertext, match="not an Underseal ciphertext"):
        parse_plain_ciphertext(ciphertext.to_bytes(), SWIFT, kind)
    for cut in (0, 7, 8, -1):
        with pytest.raises(MalformedCiphertext):
            parse_plain_ciphertext(plain_form(ciphertext)[:cut], SWIFT, kind)


def test_parsed_ciphertext_does_not_follow_the_callers_buffer() -> None:
    original = random_ciphertext(SWIFT, Kind.RESULT)
    buffer = bytearray(original.to_bytes())
    parsed = parse_ciphertext(memoryview(buffer), SWIFT, Kind.RESULT)
    buffer[8:] = b"\xff" * (len(buffer) - 8)
    assert np.array_equal(parsed.residues, original.residues)
