"""SEAL, as an independent implementation, accepts all keys of the ceremony."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from tenseal import sealapi

from tests.oracles import ntt, seal_keys
from tests.oracles.ceremonies import Finished, finished, joint_secret
from underseal_core.scheme.ciphertext import Kind
from underseal_core.scheme.encoding import decode_coefficients
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.profiles import PROFILES, Profile
from underseal_core.seal_format import ciphertext_from_seal, ciphertext_to_seal, seal_context

CASES = [("swift", 1, 1, 4), ("compact", 1, 1, 4), ("guarded", 1, 1, 4), ("swift", 2, 3, 16)]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def unit(dimension: int) -> npt.NDArray[np.float64]:
    vector = np.random.default_rng(7).normal(size=dimension)
    return np.asarray(vector / np.linalg.norm(vector))


def secret_of(ceremony: Finished) -> npt.NDArray[np.uint32]:
    return joint_secret(ceremony.shares[: ceremony.bundle.threshold])


def centred(values: npt.NDArray[np.uint32], prime: int) -> npt.NDArray[np.int64]:
    coefficients = ntt.inverse(values, prime).astype(np.int64)
    return np.where(coefficients > prime // 2, coefficients - prime, coefficients)


def residual(
    pair: npt.NDArray[np.uint32], secret: npt.NDArray[np.uint32], prime: int, message: object
) -> npt.NDArray[np.int64]:
    """Error of ``(b, a)``: ``b + a s - message`` in plain arithmetic, centred."""
    wide = pair.astype(object)
    value = (wide[0] + wide[1] * secret.astype(object) - message) % prime
    return centred(value.astype(np.uint32), prime)


@every_case
def test_keys_satisfy_their_equations(case: tuple[str, int, int, int]) -> None:
    ceremony = finished(*case)
    bundle, secret = ceremony.bundle, secret_of(ceremony)
    profile = bundle.profile
    primes = profile.key_primes
    largest = {"public": 0, "relinearisation": 0, "galois": 0}
    element = min(bundle.keys.galois)
    for index, prime in enumerate(primes):
        own = secret[index]
        error = residual(bundle.public_key[:, index], own, prime, 0)
        largest["public"] = max(largest["public"], int(np.abs(error).max()))
        moved = ntt.forward(rotated(ntt.inverse(own, prime), element, prime), prime)
        targets = {
            "relinearisation": (bundle.keys.relinearisation, own.astype(object) ** 2),
            "galois": (bundle.keys.galois[element], moved.astype(object)),
        }
        for digit in range(profile.fresh_level):
            for name, (key, target) in targets.items():
                message = profile.special_prime * target if digit == index else 0
                error = residual(key[digit][:, index], own, prime, message)
                largest[name] = max(largest[name], int(np.abs(error).max()))
    count = len(ceremony.shares)
    assert 8 < largest["public"] <= 21 * count
    assert 8 < largest["galois"] <= 21 * count
    # s*e1 + u*e0 + two fresh errors: about 3.24 * sqrt(2N * 2/3) * n, eight deviations
    assert largest["relinearisation"] < 8 * 3.24 * np.sqrt(4 / 3 * profile.degree) * count


def rotated(
    coefficients: npt.NDArray[np.uint32], element: int, prime: int
) -> npt.NDArray[np.uint32]:
    """``f(X^element)``, coefficient by coefficient."""
    degree = len(coefficients)
    result = np.zeros(degree, dtype=np.uint32)
    for i, value in enumerate(coefficients.tolist()):
        power = i * element % (2 * degree)
        result[power % degree] = value if power < degree else (prime - value) % prime
    return result


@every_case
def test_seal_opens_what_was_encrypted_under_the_joint_key(
    case: tuple[str, int, int, int],
) -> None:
    ceremony = finished(*case)
    profile, dimension = ceremony.bundle.profile, ceremony.bundle.dimension
    vector = unit(dimension)
    probe = Encryptor(profile, dimension, ceremony.bundle.public_key).encrypt_probe(vector)
    opened = open_with_seal(ceremony, probe.residues, Kind.PROBE_ROW.scale(profile, dimension))
    assert np.abs(opened[:dimension] - vector).max() < 1e-6
    assert np.abs(opened[dimension:]).max() < 1e-6


@every_case
def test_seal_multiplies_and_relinearises_with_our_key(case: tuple[str, int, int, int]) -> None:
    ceremony = finished(*case)
    profile, dimension = ceremony.bundle.profile, ceremony.bundle.dimension
    vector = unit(dimension)
    columns = list(
        Encryptor(profile, dimension, ceremony.bundle.public_key).encrypt_columns(vector[None, :])
    )
    scale = Kind.COLUMN.scale(profile, dimension)
    left, right = (ciphertext_to_seal(profile, column.residues, 1.0) for column in columns[:2])
    evaluator = sealapi.Evaluator(seal_context(profile))
    evaluator.multiply_inplace(left, right)
    key = ceremony.bundle.keys.relinearisation
    evaluator.relinearize_inplace(left, seal_keys.relinearisation_to_seal(profile, key))
    opened = open_with_seal(ceremony, ciphertext_from_seal(left).residues, scale**2)
    assert opened[0] == pytest.approx(vector[0] * vector[1], abs=1e-3)
    assert np.abs(opened[1:]).max() < 1e-3


@every_case
def test_seal_applies_every_galois_element_with_our_keys(case: tuple[str, int, int, int]) -> None:
    ceremony = finished(*case)
    profile, dimension = ceremony.bundle.profile, ceremony.bundle.dimension
    vector = unit(dimension)
    probe = Encryptor(profile, dimension, ceremony.bundle.public_key).encrypt_probe(vector)
    keys = seal_keys.galois_to_seal(profile, ceremony.bundle.keys.galois)
    scale = Kind.PROBE_ROW.scale(profile, dimension)
    evaluator = sealapi.Evaluator(seal_context(profile))
    for element in ceremony.bundle.keys.galois:
        moved = sealapi.Ciphertext()
        evaluator.apply_galois(
            ciphertext_to_seal(profile, probe.residues, 1.0), element, keys, moved
        )
        opened = open_with_seal(ceremony, ciphertext_from_seal(moved).residues, scale)
        for i, component in enumerate(vector):
            power = i * element % (2 * profile.degree)
            sign = 1 if power < profile.degree else -1
            assert opened[power % profile.degree] == pytest.approx(sign * component, abs=1e-5)


def open_with_seal(
    ceremony: Finished, residues: npt.NDArray[np.uint32], scale: float
) -> npt.NDArray[np.float64]:
    profile: Profile = PROFILES[ceremony.bundle.profile.name]
    key = seal_keys.secret_to_seal(profile, secret_of(ceremony))
    message = seal_keys.decrypt(profile, key, residues)
    return decode_coefficients(message, profile, residues.shape[1], scale)
