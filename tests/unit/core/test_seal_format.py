from __future__ import annotations

import numpy as np
import pytest
from tenseal import sealapi

from tests.oracles import seal_keys
from tests.unit.core.test_ciphertext import random_ciphertext
from underseal_core.scheme.ciphertext import Kind
from underseal_core.scheme.profiles import PROFILES, Profile
from underseal_core.seal_format import (
    ciphertext_from_seal,
    ciphertext_to_seal,
    parameters_id,
    public_key_to_seal,
    seal_context,
)

every_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)


@every_profile
def test_context_has_exactly_the_profiles_primes(profile: Profile) -> None:
    moduli = seal_context(profile).key_context_data().parms().coeff_modulus()
    assert [modulus.value() for modulus in moduli] == list(profile.key_primes)


@every_profile
def test_parameters_id_walks_the_chain(profile: Profile) -> None:
    context = seal_context(profile)
    assert parameters_id(profile, profile.fresh_level + 1) == tuple(context.key_parms_id())
    assert parameters_id(profile, profile.fresh_level) == tuple(context.first_parms_id())
    assert parameters_id(profile, 1) == tuple(context.last_parms_id())


@every_profile
@pytest.mark.parametrize("kind", [Kind.PROBE_ROW, Kind.COLUMN, Kind.RESULT])
def test_ciphertext_goes_into_seal_and_out_again(profile: Profile, kind: Kind) -> None:
    ciphertext = random_ciphertext(profile, kind)
    inside = ciphertext_to_seal(profile, ciphertext.residues, 2.0**21)
    assert sealapi.is_valid_for(inside, seal_context(profile))
    outside = ciphertext_from_seal(inside)
    assert np.array_equal(outside.residues, ciphertext.residues)
    assert outside.residues.dtype == np.uint32
    assert (outside.scale, outside.is_ntt) == (2.0**21, True)


def test_seal_refuses_a_residue_that_is_not_below_its_prime() -> None:
    profile = PROFILES["swift"]
    residues = random_ciphertext(profile, Kind.RESULT).residues
    residues[0, 0, 0] = profile.data_primes[0]
    with pytest.raises(RuntimeError, match="invalid"):
        ciphertext_to_seal(profile, residues, 1.0)


@every_profile
def test_public_key_goes_into_seal_and_out_again(profile: Profile) -> None:
    _, public = seal_keys.generated(profile)
    inside = public_key_to_seal(profile, public)
    assert np.array_equal(ciphertext_from_seal(inside.data()).residues, public)


def test_three_components_are_kept() -> None:
    profile = PROFILES["swift"]
    left = ciphertext_to_seal(profile, random_ciphertext(profile, Kind.COLUMN).residues, 1.0)
    product = sealapi.Ciphertext()
    sealapi.Evaluator(seal_context(profile)).multiply(left, left, product)
    assert ciphertext_from_seal(product).residues.shape == (3, 2, profile.degree)
