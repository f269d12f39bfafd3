from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from underseal_auditor.keys.sampling import (
    PublicStream,
    SecretStream,
    error,
    gaussian,
    ternary,
    uniform,
)
from underseal_core.scheme.profiles import GUARDED

COUNT = 1 << 16


def seeded(label: str) -> SecretStream:
    return SecretStream(hashlib.sha256(label.encode()).digest())


def test_secret_streams_are_seeded_by_the_operating_system() -> None:
    assert SecretStream().read(32) != SecretStream().read(32)
    assert "..." in repr(SecretStream())


def test_secret_stream_is_the_chacha20_keystream() -> None:
    # RFC 8439, appendix A.1, test vector 1: zero key, zero nonce, counter 0.
    stream = SecretStream(bytes(32))
    assert stream.read(8).hex() == "76b8e0ada0f13d90"
    assert stream.read(8).hex() == "405d6ae55386bd28"


def test_public_stream_is_shake256_in_counter_mode() -> None:
    stream = PublicStream(b"s" * 32, "label")
    blocks = [
        hashlib.shake_256(b"label\x00" + b"s" * 32 + i.to_bytes(8, "little")).digest(1 << 16)
        for i in range(2)
    ]
    assert stream.read(70000) + stream.read(100) == b"".join(blocks)[:70100]


def test_public_streams_differ_by_seed_and_label() -> None:
    streams = [
        PublicStream(b"s" * 32, "a"),
        PublicStream(b"s" * 32, "b"),
        PublicStream(b"t" * 32, "a"),
    ]
    assert len({stream.read(16) for stream in streams}) == 3


def test_uniform_residues_fill_the_range_evenly() -> None:
    primes = (*GUARDED.data_primes, GUARDED.special_prime, 12289)
    values = uniform(seeded("uniform"), primes, COUNT)
    assert values.shape == (len(primes), COUNT)
    assert values.dtype == np.uint32
    for row, prime in zip(values, primes, strict=True):
        assert int(row.max()) < prime
        cells, _ = np.histogram(row, bins=16, range=(0, prime))
        chi_square = float(((cells - COUNT / 16) ** 2 / (COUNT / 16)).sum())
        assert chi_square < 45  # 15 degrees of freedom: 1e-4


def test_ternary_values_are_equally_frequent() -> None:
    counts = Counter(ternary(seeded("ternary"), COUNT).tolist())
    assert set(counts) == {-1, 0, 1}
    assert all(abs(count - COUNT / 3) < 600 for count in counts.values())  # 5 deviations


def test_errors_have_the_deviation_of_the_scheme() -> None:
    values = error(seeded("error"), (4, COUNT // 4))
    assert values.shape == (4, COUNT // 4)
    assert abs(float(values.mean())) < 0.06
    assert float(values.std()) == pytest.approx(np.sqrt(10.5), rel=0.015)
    assert int(np.abs(values).max()) <= 21


@pytest.mark.parametrize("deviation", [300.0, 2.0**43.8])
def test_gaussian_noise_has_the_wanted_shape(deviation: float) -> None:
    values = gaussian(seeded("gaussian"), deviation, COUNT) / deviation
    assert abs(float(values.mean())) < 0.02
    assert float(values.std()) == pytest.approx(1.0, rel=0.015)
    assert float((values**4).mean()) == pytest.approx(3.0, rel=0.06)
    for bound, inside in ((1.0, 0.6827), (2.0, 0.9545), (3.0, 0.9973)):
        assert float((np.abs(values) < bound).mean()) == pytest.approx(inside, abs=0.009)
    lag = float((values[:-1] * values[1:]).mean())
    halves = float((values[: COUNT // 2] * values[COUNT // 2 :]).mean())
    assert abs(lag) < 0.02
    assert abs(halves) < 0.03


def test_gaussian_count_may_be_odd() -> None:
    assert gaussian(seeded("odd"), 10.0, 7).shape == (7,)


class Fixed:
    """A stream that repeats one byte: the ends of the distributions."""

    def __init__(self, byte: int) -> None:
        self._byte = byte

    def read(self, size: int) -> bytes:
        return bytes([self._byte]) * size


def test_gaussian_tail_ends_beyond_twelve_deviations_and_never_overflows() -> None:
    largest = gaussian(Fixed(0), 2.0**58, 2)
    assert 12.1 < float(largest[0]) / 2.0**58 < 12.3
    assert np.abs(gaussian(Fixed(255), 2.0**58, 2)).max() < 2**58 * 12.3


def test_radius_of_a_gaussian_pair_is_not_on_a_coarse_grid() -> None:
    """Whoever sees both values of a pair must not be able to tell the radius from its grid."""
    values = gaussian(seeded("radius"), 2.0**52, 1 << 18) / 2.0**52
    half = len(values) // 2
    squared = values[:half] ** 2 + values[half:] ** 2
    tail = squared[squared > 20.0]
    on_grid = np.exp(-tail / 2.0) * 2.0**53  # whole numbers, had one 53-bit number been drawn
    resolution = np.exp(-tail / 2.0) * 2.0**53 * tail * 2.0**-50
    assert len(tail) >= 3
    assert resolution.max() < 0.1
    assert np.abs(on_grid - np.rint(on_grid)).max() > 0.1
