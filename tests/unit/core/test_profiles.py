from __future__ import annotations

from math import log2

import pytest
from tenseal import sealapi

from underseal_core.errors import InvalidInput
from underseal_core.scheme.ciphertext import Kind
from underseal_core.scheme.profiles import (
    PROFILES,
    Profile,
    padded_dimension,
    profile_by_wire_id,
    profile_named,
)

every_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)

# ePrint 2024/463, Table 5.2, ternary secret: largest log2 of the whole modulus.
LARGEST_MODULUS = {("guarded", 128): 214, ("compact", 256): 114, ("swift", 128): 106}


@every_profile
def test_primes_are_those_that_seal_chooses(profile: Profile) -> None:
    primes = profile.key_primes
    bits = [prime.bit_length() for prime in primes]
    chosen = [modulus.value() for modulus in sealapi.CoeffModulus.Create(profile.degree, bits)]
    assert chosen == list(primes)
    assert max(bits) <= 29


@every_profile
def test_modulus_is_within_the_security_table(profile: Profile) -> None:
    total = log2(profile.modulus(profile.fresh_level) * profile.special_prime)
    assert total <= LARGEST_MODULUS[profile.name, profile.security_bits]


@every_profile
def test_scales_follow_the_scheme(profile: Profile) -> None:
    for dimension in (2, 128, 1024):
        row = Kind.TEMPLATE_ROW.scale(profile, dimension)
        dropped = profile.modulus(profile.fresh_level) / profile.modulus(profile.gallery_level)
        assert row * dimension / dropped == pytest.approx(profile.template_scale, rel=1e-12)
    product = profile.probe_scale * profile.template_scale
    assert log2(product) <= log2(profile.modulus(profile.gallery_level)) - 1.5
    left = profile.modulus(profile.gallery_level) / profile.modulus(profile.result_level)
    assert profile.result_scale * left == pytest.approx(product, rel=1e-12)
    assert profile.result_scale * 1.05 < profile.modulus(profile.result_level) / 2


@every_profile
def test_levels_never_rise(profile: Profile) -> None:
    levels = [profile.fresh_level, profile.gallery_level, profile.check_level, profile.result_level]
    assert levels == sorted(levels, reverse=True)
    fresh, gallery, _, result = levels
    assert [kind.level(profile) for kind in Kind] == [fresh, fresh, gallery, result, result]


def test_profiles_are_found_by_name_and_number() -> None:
    for name, profile in PROFILES.items():
        assert profile_named(name) is profile
        assert profile_by_wire_id(profile.wire_id) is profile
    with pytest.raises(InvalidInput, match="unknown profile 'toy'"):
        profile_named("toy")
    with pytest.raises(InvalidInput, match="unknown profile number 9"):
        profile_by_wire_id(9)


@pytest.mark.parametrize(("given", "padded"), [(2, 2), (3, 4), (128, 128), (500, 512)])
def test_dimension_is_padded_to_a_power_of_two(given: int, padded: int) -> None:
    assert padded_dimension(given) == padded


@pytest.mark.parametrize("dimension", [-1, 0, 1, 1025])
def test_dimension_out_of_range_is_refused(dimension: int) -> None:
    with pytest.raises(InvalidInput):
        padded_dimension(dimension)
