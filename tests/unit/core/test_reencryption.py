"""Re-encryption: what SEAL computes, what plain integers give, and what the new key opens."""

from __future__ import annotations

import numpy as np
import pytest

from tests.oracles import ntt, seal_keys
from tests.oracles.ceremonies import Finished, joint_secret
from tests.oracles.rotations import Rotated, rotated
from tests.oracles.seal_evaluation import F64, U32, uniform, unit_vectors
from underseal_core.errors import InvalidInput, MalformedCiphertext
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.encoding import decode_coefficients
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import Evaluator, tiles_shape
from underseal_core.scheme.profiles import COMPACT, GUARDED, PROFILES, SWIFT, Profile
from underseal_core.scheme.reencryption import Reencryptor, raise_level
from underseal_core.seal_format import ciphertext_from_seal, ciphertext_to_seal, seal_context

PROFILE_NAMES = list(PROFILES)
every_profile = pytest.mark.parametrize("name", PROFILE_NAMES)
DIMENSION = 16


def opened(ceremony: Finished, ciphertext: Ciphertext) -> F64:
    """Open with SEAL's Decryptor under the whole secret of a ceremony."""
    bundle = ceremony.bundle
    secret = joint_secret(ceremony.shares[: bundle.threshold])
    key = seal_keys.secret_to_seal(bundle.profile, secret)
    message = seal_keys.decrypt(bundle.profile, key, ciphertext.residues, 1.0)
    scale = ciphertext.kind.scale(bundle.profile, bundle.dimension)
    return decode_coefficients(message, bundle.profile, ciphertext.residues.shape[1], scale)


def encryptor(ceremony: Finished) -> Encryptor:
    bundle = ceremony.bundle
    return Encryptor(bundle.profile, bundle.dimension, bundle.public_key)


@every_profile
def test_seal_opens_a_switched_unit_with_the_new_secret(name: str) -> None:
    move = rotated(name)
    templates = unit_vectors(np.random.default_rng(1), 3, DIMENSION)
    row = encryptor(move.old).encrypt_row(templates)
    columns = list(encryptor(move.old).encrypt_columns(templates))
    with Reencryptor(move.key.profile, move.key.key) as switch:
        (moved,) = switch.unit([row])
        found = opened(move.new, moved)
        assert np.abs(found[: templates.size] - templates.ravel()).max() < 1e-7
        assert np.abs(found[templates.size :]).max() < 1e-7
        for index, column in enumerate(switch.unit(columns)):
            found = opened(move.new, column)
            assert np.abs(found[:3] - templates[:, index]).max() < 1e-4
            assert np.abs(found[3:]).max() < 1e-4


@every_profile
def test_switching_is_seals_relinearisation_of_the_third_component(name: str) -> None:
    """``(c0, 0, c1)``, relinearised with the switching key, is ``(c0, c1)`` switched."""
    from tenseal import sealapi

    move, profile = rotated(name), PROFILES[name]
    row = Ciphertext(
        profile,
        Kind.TEMPLATE_ROW,
        uniform(np.random.default_rng(2), profile, profile.fresh_level, 2),
    )
    three = np.stack((row.residues[0], np.zeros_like(row.residues[0]), row.residues[1]))
    wide = ciphertext_to_seal(profile, three, 1.0)
    key = seal_keys.relinearisation_to_seal(profile, move.key.key)
    sealapi.Evaluator(seal_context(profile)).relinearize_inplace(wide, key)
    with Reencryptor(profile, move.key.key) as switch:
        (ours,) = switch.unit([row])
    np.testing.assert_array_equal(ours.residues, ciphertext_from_seal(wide).residues)


@pytest.mark.parametrize("profile", [SWIFT, GUARDED], ids=lambda one: one.name)
def test_columns_are_switched_as_plain_integers_say(profile: Profile) -> None:
    """Raise, switch and rescale, with an independent transform and no lazy reduction."""
    move = rotated(profile.name)
    column = uniform(np.random.default_rng(3), profile, profile.gallery_level, 2)
    with Reencryptor(profile, move.key.key) as switch:
        (ours,) = switch.unit([Ciphertext(profile, Kind.COLUMN, column)])
    np.testing.assert_array_equal(ours.residues, plain_switch(profile, column, move.key.key))


def plain_switch(profile: Profile, column: U32, key: U32) -> U32:
    primes = profile.key_primes
    fresh, level = profile.fresh_level, profile.gallery_level
    (dropped,) = profile.data_primes[level:]
    raised = [
        [half[i].astype(object) * dropped % primes[i] for i in range(level)] for half in column
    ]
    sums = [[np.zeros(profile.degree, dtype=object) for _ in primes] for _ in range(2)]
    for digit in range(level):  # the raised ciphertext is 0 modulo the dropped prime
        small = ntt.inverse(raised[1][digit].astype(np.uint32), primes[digit])
        for index, prime in enumerate(primes):
            lifted = ntt.forward((small % prime).astype(np.uint32), prime).astype(object)
            for half in range(2):
                product = lifted * key[digit, half, index].astype(object)
                sums[half][index] = (sums[half][index] + product) % prime
    result = []
    for half in range(2):
        value = divided(sums[half], primes)
        for index in range(level):
            value[index] = (value[index] + (raised[0][index] if half == 0 else 0)) % primes[index]
        result.append(np.stack(divided(value, primes[:fresh])).astype(np.uint32))
    return np.stack(result)


def divided(values: list[np.ndarray], primes: tuple[int, ...]) -> list[np.ndarray]:
    """Divide by the last prime and round, as ``(x + q/2 - [x + q/2]_q) / q``."""
    last = primes[-1]
    half = last // 2
    rest = (ntt.inverse(values[-1].astype(np.uint32), last).astype(np.int64) + half) % last
    result = []
    for value, prime in zip(values[:-1], primes[:-1], strict=True):
        remainder = ((rest - half) % prime).astype(np.uint32)
        difference = value - ntt.forward(remainder, prime).astype(object)
        result.append(difference * pow(last, -1, prime) % prime)
    return result


def test_threads_and_batches_change_no_bit() -> None:
    move = rotated()
    rng = np.random.default_rng(4)
    columns = [
        Ciphertext(SWIFT, Kind.COLUMN, uniform(rng, SWIFT, SWIFT.gallery_level, 2))
        for _ in range(37)
    ]
    with Reencryptor(SWIFT, move.key.key) as alone, Reencryptor(SWIFT, move.key.key, 3) as three:
        singly = [next(alone.unit([column])).to_bytes() for column in columns]
        assert [column.to_bytes() for column in three.unit(columns)] == singly


def test_raising_is_undone_by_rescaling() -> None:
    from underseal_core.scheme.keyswitch import rescale
    from underseal_core.scheme.workers import Workers

    for profile in PROFILES.values():
        column = uniform(np.random.default_rng(5), profile, profile.result_level, 1, 2)
        raised = raise_level(column, profile.fresh_level, profile)
        lowered = rescale(raised, profile.result_level, profile, Workers(1))
        np.testing.assert_array_equal(lowered, column)


def test_only_stored_ciphertexts_of_the_profile_are_switched() -> None:
    move = rotated()
    rng = np.random.default_rng(6)
    result = Ciphertext(SWIFT, Kind.RESULT, uniform(rng, SWIFT, SWIFT.result_level, 2))
    foreign = Ciphertext(COMPACT, Kind.COLUMN, uniform(rng, COMPACT, COMPACT.gallery_level, 2))
    row = Ciphertext(SWIFT, Kind.TEMPLATE_ROW, uniform(rng, SWIFT, SWIFT.fresh_level, 2))
    column = Ciphertext(SWIFT, Kind.COLUMN, uniform(rng, SWIFT, SWIFT.gallery_level, 2))
    with Reencryptor(SWIFT, move.key.key) as switch:
        for unit in ([result], [foreign], [row, column]):
            with pytest.raises(MalformedCiphertext):
                list(switch.unit(unit))
    with pytest.raises(InvalidInput):
        Reencryptor(GUARDED, move.key.key)


ERRORS = [
    # profile, column, at most in a row (units of a component), score of a full bulk block
    ("swift", -19.6, -31.0, -13.9),
    ("compact", -21.1, -34.0, -14.9),
    ("guarded", -49.1, -58.0, -42.9),
]
TOLERANCE = 0.6
"""In bits; what is random is a share of the keys and one encryption's noise."""
NOTHING = 0.25
"""In bits: a score's error is that of the new keys, whether its gallery was switched or not."""


@pytest.mark.parametrize(
    ("name", "column", "row", "score"), ERRORS, ids=[error[0] for error in ERRORS]
)
def test_switching_adds_the_error_of_a_rounding(
    name: str, column: float, row: float, score: float
) -> None:
    """From 2 of 3 to 3 of 5: the table of scheme.md, section 7."""
    move = rotated(name, (2, 3), (3, 5))
    profile = move.key.profile
    rng = np.random.default_rng(7)
    templates, vector = (
        unit_vectors(rng, profile.degree, DIMENSION),
        unit_vectors(rng, 1, DIMENSION)[0],
    )
    columns = list(encryptor(move.old).encrypt_columns(templates))
    some = templates[: profile.degree // DIMENSION]
    single = encryptor(move.old).encrypt_row(some)
    with Reencryptor(profile, move.key.key, 2) as switch:
        moved = list(switch.unit(columns))
        (moved_row,) = switch.unit([single])
    errors = [opened(move.new, moved[i]) - templates[:, i] for i in range(4)]
    assert bits(np.stack(errors)) == pytest.approx(column, abs=TOLERANCE)
    assert bits(opened(move.new, moved_row) - some.ravel()) < row  # varies: digits have a mean
    fresh = list(encryptor(move.new).encrypt_columns(templates))
    switched_score = score_error(move, vector, moved, templates)
    assert switched_score == pytest.approx(score, abs=TOLERANCE)
    assert switched_score < score_error(move, vector, fresh, templates) + NOTHING


def score_error(move: Rotated, vector: F64, columns: list[Ciphertext], templates: F64) -> float:
    bundle = move.new.bundle
    with Evaluator(bundle.profile, DIMENSION, bundle.keys, 2) as evaluator:
        probe = evaluator.prepare(encryptor(move.new).encrypt_probe(vector)).probe
        block = np.zeros(tiles_shape(bundle.profile, DIMENSION), dtype=np.uint32)
        for index, column in enumerate(columns):
            evaluator.add_column(block, index, column.residues, 0)
        return bits(opened(move.new, evaluator.score(probe, block)) - templates @ vector)


def bits(error: F64) -> float:
    return float(np.log2(np.sqrt(np.mean(error**2))))
