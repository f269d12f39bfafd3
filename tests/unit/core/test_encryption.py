from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.oracles import seal_keys
from tests.unit.core.test_encoding import unit_rows
from underseal_core.errors import InvalidInput
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext
from underseal_core.scheme.encoding import decode_coefficients
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.profiles import PROFILES, SWIFT, Profile

DIMENSION = 16
every_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)


@cache
def keys(profile: Profile) -> tuple[Any, npt.NDArray[np.uint32]]:
    return seal_keys.generated(profile)


def encryptor(profile: Profile) -> Encryptor:
    return Encryptor(profile, DIMENSION, keys(profile)[1])


def opened(ciphertext: Ciphertext) -> npt.NDArray[np.float64]:
    profile, kind = ciphertext.profile, ciphertext.kind
    message = seal_keys.decrypt(profile, keys(profile)[0], ciphertext.residues)
    scale = kind.scale(profile, DIMENSION)
    return decode_coefficients(message, profile, kind.level(profile), scale)


def noise_bound(profile: Profile, kind: Kind) -> float:
    """Eight standard deviations of SEAL's fresh noise (mostly the rounding after the division by
    the special prime, sqrt(N / 18) plus a little), and the rounding of float64."""
    return 8 * 30 / kind.scale(profile, DIMENSION) + 2.0**-51


@every_profile
def test_seal_opens_a_probe(profile: Profile) -> None:
    vector = unit_rows(1, DIMENSION)[0]
    probe = encryptor(profile).encrypt_probe(vector)
    assert probe.kind == Kind.PROBE_ROW
    wanted = np.zeros(profile.degree)
    wanted[:DIMENSION] = vector
    assert np.abs(opened(probe) - wanted).max() < noise_bound(profile, Kind.PROBE_ROW)
    again = parse_ciphertext(probe.to_bytes(), profile, Kind.PROBE_ROW)
    assert np.array_equal(again.residues, probe.residues)


@every_profile
def test_seal_opens_a_full_row(profile: Profile) -> None:
    templates = unit_rows(profile.degree // DIMENSION, DIMENSION)
    row = encryptor(profile).encrypt_row(templates)
    assert row.kind == Kind.TEMPLATE_ROW
    error = np.abs(opened(row) - templates.ravel())
    assert error.max() < noise_bound(profile, Kind.TEMPLATE_ROW)


@every_profile
def test_seal_opens_columns(profile: Profile) -> None:
    templates = unit_rows(profile.degree, DIMENSION - 1)
    columns = list(encryptor(profile).encrypt_columns(templates))
    assert [column.kind for column in columns] == [Kind.COLUMN] * DIMENSION
    for index in (0, 7, DIMENSION - 2):
        error = np.abs(opened(columns[index]) - templates[:, index])
        assert error.max() < noise_bound(profile, Kind.COLUMN)
    assert np.abs(opened(columns[-1])).max() < noise_bound(profile, Kind.COLUMN)


def test_same_template_never_encrypts_to_the_same_bytes() -> None:
    vector = unit_rows(1, DIMENSION)[0]
    machine = encryptor(SWIFT)
    first, second = machine.encrypt_probe(vector), machine.encrypt_probe(vector)
    assert (first.residues != second.residues).mean() > 0.99


def test_ciphertext_does_not_change_after_it_was_returned() -> None:
    machine = encryptor(SWIFT)
    first = machine.encrypt_probe(unit_rows(1, DIMENSION)[0])
    before = first.residues.copy()
    machine.encrypt_probe(unit_rows(1, DIMENSION, seed=2)[0])
    assert np.array_equal(first.residues, before)


def test_threads_share_an_encryptor() -> None:
    machine = encryptor(SWIFT)
    vectors = unit_rows(12, DIMENSION)
    with ThreadPoolExecutor(4) as pool:
        probes = list(pool.map(machine.encrypt_probe, vectors))
    for vector, probe in zip(vectors, probes, strict=True):
        error = np.abs(opened(probe)[:DIMENSION] - vector)
        assert error.max() < noise_bound(SWIFT, Kind.PROBE_ROW)


def test_bad_input_is_refused_before_anything_is_encrypted() -> None:
    machine = encryptor(SWIFT)
    with pytest.raises(InvalidInput, match="one vector"):
        machine.encrypt_probe(unit_rows(2, DIMENSION))
    with pytest.raises(InvalidInput, match="unit vector"):
        machine.encrypt_probe(np.ones(DIMENSION))
    with pytest.raises(InvalidInput, match="do not fit a row"):
        machine.encrypt_row(unit_rows(SWIFT.degree // DIMENSION + 1, DIMENSION))
    with pytest.raises(InvalidInput, match="unit vector"):
        machine.encrypt_columns(np.ones((2, DIMENSION)))


def test_foreign_public_key_is_refused() -> None:
    key = keys(SWIFT)[1]
    with pytest.raises(InvalidInput, match="not one of profile"):
        Encryptor(SWIFT, DIMENSION, keys(PROFILES["compact"])[1])
    with pytest.raises(InvalidInput, match="not one of profile"):
        Encryptor(SWIFT, DIMENSION, key.astype(np.uint64))
    bad = key.copy()
    bad[1, -1, 0] = SWIFT.special_prime
    with pytest.raises(InvalidInput, match="not below its prime"):
        Encryptor(SWIFT, DIMENSION, bad)
