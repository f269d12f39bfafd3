from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt
import pytest
from tenseal import sealapi

from tests.oracles import ntt
from underseal_core.errors import InvalidInput
from underseal_core.ring import kernel
from underseal_core.scheme.encoding import (
    check_templates,
    decode_coefficients,
    encode_columns,
    encode_polynomials,
    encode_row,
)
from underseal_core.scheme.profiles import GUARDED, PROFILES, SWIFT, Profile
from underseal_core.seal_format import ciphertext_from_seal, ciphertext_to_seal, seal_context

every_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)


def unit_rows(count: int, dimension: int, seed: int = 1) -> npt.NDArray[np.float64]:
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@every_profile
def test_oracle_transform_is_that_of_seal(profile: Profile) -> None:
    level = profile.fresh_level
    generator = np.random.default_rng(3)
    primes = np.array(profile.data_primes)[None, :, None]
    shape = (2, level, profile.degree)
    values = generator.integers(0, primes, shape).astype(np.uint32)
    transformed = ciphertext_to_seal(profile, values, 1.0)
    sealapi.Evaluator(seal_context(profile)).transform_from_ntt_inplace(transformed)
    coefficients = ciphertext_from_seal(transformed).residues
    for index, prime in enumerate(profile.data_primes):
        assert np.array_equal(ntt.forward(coefficients[:, index], prime), values[:, index])
        assert np.array_equal(ntt.inverse(values[:, index], prime), coefficients[:, index])


@every_profile
def test_residues_are_those_of_exact_arithmetic(profile: Profile) -> None:
    coefficients = np.random.default_rng(4).uniform(-1, 1, profile.degree)
    coefficients[:4] = (1.0, -1.0, 0.0, -(2.0**-70))
    scale = profile.row_scale(profile.template_scale, 2)
    residues = encode_polynomials(coefficients, profile, profile.fresh_level, scale)
    integers = [int(value) for value in np.rint(coefficients * scale)]
    for index, prime in enumerate(profile.data_primes):
        wanted = np.array([value % prime for value in integers], dtype=np.uint32)
        assert np.array_equal(ntt.inverse(residues[index], prime), wanted)


@every_profile
def test_decoding_is_exact_at_every_level(profile: Profile) -> None:
    generator = np.random.default_rng(5)
    for level in range(1, profile.fresh_level + 1):
        primes = profile.data_primes[:level]
        half = (prod(primes) - 1) // 2
        small = primes[0] // 2
        edges = [0, 1, -1, half, -half, small, -small, 1 - half, half - small]
        spread = [int(x * half) for x in generator.uniform(-1, 1, profile.degree - len(edges))]
        integers = edges + spread
        rows = [[value % prime for value in integers] for prime in primes]
        residues = kernel.ntt_forward(np.array(rows, dtype=np.uint32), primes)
        decoded = decode_coefficients(residues, profile, level, 8.0)
        wanted = np.array([value / 8 for value in integers])
        assert np.allclose(decoded, wanted, rtol=2.0**-51, atol=0)


def test_row_holds_one_template_after_the_other() -> None:
    dimension = 64
    templates = unit_rows(SWIFT.degree // dimension, dimension)
    scale = SWIFT.row_scale(SWIFT.template_scale, dimension)
    residues = encode_row(templates, SWIFT, dimension, scale)
    assert residues.shape == (SWIFT.fresh_level, SWIFT.degree)
    decoded = decode_coefficients(residues, SWIFT, SWIFT.fresh_level, scale)
    assert np.allclose(decoded.reshape(templates.shape), templates, atol=1 / scale)


def test_column_holds_one_component_of_every_template() -> None:
    dimension = 32
    templates = unit_rows(100, 20)
    scale = GUARDED.template_scale
    columns = list(encode_columns(templates, GUARDED, dimension, scale))
    assert len(columns) == dimension
    for index, column in enumerate(columns):
        decoded = decode_coefficients(column, GUARDED, GUARDED.gallery_level, scale)
        wanted = templates[:, index] if index < 20 else 0.0
        assert np.allclose(decoded[:100], wanted, atol=1 / scale)
        assert not decoded[100:].any()


def test_shorter_model_dimension_is_padded_with_zeros() -> None:
    padded = check_templates(unit_rows(3, 100), 128)
    assert padded.shape == (3, 128)
    assert not padded[:, 100:].any()


@pytest.mark.parametrize("norm", [1.0 - 9e-4, 1.0, 1.0 + 9e-4])
def test_norm_within_tolerance_is_taken(norm: float) -> None:
    check_templates(unit_rows(2, 16) * norm, 16)


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        (unit_rows(1, 16)[0], "one row per template"),
        (np.zeros((0, 16)), "one row per template"),
        (unit_rows(1, 17), "17 components, the keys are for 16"),
        (np.zeros((1, 0)), "0 components"),
        (unit_rows(1, 16) * 1.3, "not a unit vector"),
        (unit_rows(1, 16) * (1 - 2e-3), "not a unit vector"),
        (np.zeros((1, 16)), "not a unit vector"),
        (np.full((1, 16), np.nan), "not finite"),
        (np.full((1, 16), np.inf), "not finite"),
        ([["a"] * 16], "not an array of numbers"),
        (np.eye(1, 16) + 0.01j, "not an array of numbers"),
        (np.eye(1, 16).astype(object), "not an array of numbers"),
        ([[1.0], [0.5, 0.5]], "not an array of numbers"),
    ],
)
def test_bad_templates_are_refused(templates: npt.ArrayLike, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        encode_row(templates, SWIFT, 16, 2.0**20)
    with pytest.raises(InvalidInput, match=message):
        encode_columns(templates, SWIFT, 16, 2.0**20)


def test_more_templates_than_fit_are_refused() -> None:
    with pytest.raises(InvalidInput, match="do not fit a row of 4"):
        encode_row(unit_rows(5, 1024), SWIFT, 1024, 2.0**20)
    with pytest.raises(InvalidInput, match="do not fit a block of 4096"):
        encode_columns(unit_rows(4097, 2), SWIFT, 2, 2.0**20)


def test_decoding_another_level_is_refused() -> None:
    with pytest.raises(InvalidInput):
        decode_coefficients(np.zeros((2, SWIFT.degree), np.uint32), SWIFT, 1, 1.0)
