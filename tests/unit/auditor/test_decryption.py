from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from tests.oracles import seal_keys
from tests.oracles.ceremonies import DIMENSION, Finished, finished, joint_secret
from tests.unit.core.test_ciphertext import random_ciphertext
from underseal_auditor.keys.decryption import (
    Opener,
    combine,
    encrypt_zero,
    noise_deviation,
    partial_decryption,
    rerandomise,
)
from underseal_auditor.keys.elements import total
from underseal_auditor.keys.sampling import SecretStream
from underseal_auditor.keys.share import Share
from underseal_core.errors import InvalidInput, Mismatch
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.encoding import decode_coefficients, encode_polynomials
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import Evaluator, tiles_shape
from underseal_core.scheme.profiles import PROFILES, SWIFT

SIGMA = 2.0**-10
OPENED = [Kind.RESULT, Kind.NORM]


def sealed(ceremony: Finished, kind: Kind, message: npt.NDArray[np.float64]) -> Ciphertext:
    """Encrypt a message as if it were an evaluated ciphertext of this kind."""
    bundle = ceremony.bundle
    profile, level = bundle.profile, kind.level(bundle.profile)
    residues = encrypt_zero(bundle.public_key, profile, level, SecretStream())
    scale = kind.scale(profile, bundle.dimension)
    plain = encode_polynomials(message, profile, level, scale)
    residues[0] = total([residues[0], plain], profile.data_primes[:level])
    return Ciphertext(profile, kind, residues)


def message(degree: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(11).uniform(-1, 1, degree)


@pytest.mark.parametrize("name", PROFILES)
def test_noise_of_an_opened_value_has_the_wanted_deviation(name: str) -> None:
    ceremony = finished(name, 1, 1, 4)
    wanted = message(ceremony.bundle.profile.degree)
    opener = Opener(ceremony.shares, ceremony.bundle)
    error = opener.open(sealed(ceremony, Kind.RESULT, wanted), SIGMA) - wanted
    assert float(error.std()) == pytest.approx(SIGMA, rel=0.06)
    assert abs(float(error.mean())) < SIGMA / 10
    assert float(np.abs(error).max()) < 7 * SIGMA
    assert float((error**4).mean()) / SIGMA**4 == pytest.approx(3.0, rel=0.35)


@pytest.mark.parametrize("name", PROFILES)
def test_norm_opens_one_coefficient_and_nothing_of_the_others(name: str) -> None:
    ceremony = finished(name, 1, 1, 4)
    profile = ceremony.bundle.profile
    wanted = message(profile.degree)
    ciphertext = sealed(ceremony, Kind.NORM, wanted)
    opener = Opener(ceremony.shares, ceremony.bundle)
    opened = np.stack([opener.open(ciphertext, SIGMA) for _ in range(40)])
    first = opened[:, 0] - wanted[0]
    assert 0.6 * SIGMA < float(first.std()) < 1.5 * SIGMA
    assert float(np.abs(first).max()) < 6 * SIGMA
    level = Kind.NORM.level(profile)
    span = profile.modulus(level) / Kind.NORM.scale(profile, 4)
    rest = opened[:, 1:]
    assert float(rest.std()) == pytest.approx(span / 12**0.5, rel=0.02)
    assert float(np.abs(rest.mean(axis=0)).max()) < 6 * span / (12 * 40) ** 0.5
    for values in rest[:3]:
        assert abs(float(np.corrcoef(values, wanted[1:])[0, 1])) < 0.1


@pytest.mark.parametrize(("threshold", "count"), [(2, 3), (3, 5)])
def test_every_group_of_k_opens_with_the_same_noise(threshold: int, count: int) -> None:
    ceremony = finished(threshold=threshold, count=count)
    wanted = message(SWIFT.degree)
    ciphertext = sealed(ceremony, Kind.RESULT, wanted)
    for group in combinations(ceremony.shares, threshold):
        error = Opener(group, ceremony.bundle).open(ciphertext, SIGMA) - wanted
        assert float(error.std()) == pytest.approx(SIGMA, rel=0.06)


def test_fresh_noise_every_time() -> None:
    ceremony = finished()
    ciphertext = sealed(ceremony, Kind.RESULT, np.zeros(SWIFT.degree))
    opener = Opener(ceremony.shares, ceremony.bundle)
    first, second = opener.open(ciphertext, SIGMA), opener.open(ciphertext, SIGMA)
    assert abs(float(np.corrcoef(first, second)[0, 1])) < 0.1


@pytest.mark.parametrize(("threshold", "count"), [(2, 3), (3, 5)])
def test_fewer_than_k_shares_open_garbage(threshold: int, count: int) -> None:
    ceremony = finished(threshold=threshold, count=count)
    wanted = message(SWIFT.degree)
    ciphertext = sealed(ceremony, Kind.RESULT, wanted)
    active = list(range(1, threshold + 1))
    partials = [
        partial_decryption(share, active, ciphertext, DIMENSION, SIGMA, SecretStream())
        for share in ceremony.shares[:threshold]
    ]
    whole = combine(ciphertext, partials, DIMENSION)
    assert np.abs(whole - wanted).max() < 8 * SIGMA
    for missing in range(threshold):
        some = partials[:missing] + partials[missing + 1 :]
        opened = combine(ciphertext, some, DIMENSION)
        assert abs(float(np.corrcoef(opened, wanted)[0, 1])) < 0.1
        assert float(np.abs(opened).max()) > 1.5
    with pytest.raises(InvalidInput, match="key shares are needed"):
        Opener(ceremony.shares[: threshold - 1], ceremony.bundle)


def test_seal_agrees_with_the_combination() -> None:
    ceremony = finished(threshold=2, count=3)
    ciphertext = sealed(ceremony, Kind.RESULT, message(SWIFT.degree))
    secret = joint_secret(ceremony.shares[:2])
    key = seal_keys.secret_to_seal(SWIFT, secret)
    scale = Kind.RESULT.scale(SWIFT, DIMENSION)
    exact = decode_coefficients(
        seal_keys.decrypt(SWIFT, key, ciphertext.residues), SWIFT, SWIFT.result_level, scale
    )
    opened = Opener(ceremony.shares[1:], ceremony.bundle).open(ciphertext, SIGMA)
    assert float((opened - exact).std()) == pytest.approx(SIGMA, rel=0.06)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("level", [1, 2])
def test_own_encryption_of_zero_is_as_quiet_as_seals(name: str, level: int) -> None:
    ceremony = finished(name, 1, 1, 4)
    profile = ceremony.bundle.profile
    residues = encrypt_zero(ceremony.bundle.public_key, profile, level, SecretStream())
    key = seal_keys.secret_to_seal(profile, joint_secret(ceremony.shares))
    noise = decode_coefficients(seal_keys.decrypt(profile, key, residues), profile, level, 1.0)
    # Rounding of both components after the division by P: sqrt((1 + 2N/3) / 12).
    assert float(noise.std()) == pytest.approx(np.sqrt((1 + 2 * profile.degree / 3) / 12), rel=0.1)


def test_rerandomised_ciphertext_shares_nothing_with_the_old_one() -> None:
    ceremony = finished()
    ciphertext = sealed(ceremony, Kind.RESULT, message(SWIFT.degree))
    zero = encrypt_zero(ceremony.bundle.public_key, SWIFT, SWIFT.result_level, SecretStream())
    fresh = rerandomise(ciphertext, [zero])
    assert (fresh.residues == ciphertext.residues).mean() < 1e-3
    assert fresh.kind == Kind.RESULT


def test_search_from_probe_to_opened_scores() -> None:
    """The parts together: SEAL encrypts, the evaluator searches, the auditor opens."""
    ceremony = finished(threshold=2, count=3)
    bundle = ceremony.bundle
    rows = np.random.default_rng(2).normal(size=(9, DIMENSION))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    encryptor = Encryptor(SWIFT, DIMENSION, bundle.public_key)
    opener = Opener(ceremony.shares[:2], bundle)
    with Evaluator(SWIFT, DIMENSION, bundle.keys) as evaluator:
        tiles = np.zeros(tiles_shape(SWIFT, DIMENSION), dtype=np.uint32)
        evaluator.add(tiles, evaluator.expand(encryptor.encrypt_row(rows[:8])), 3)
        probe = encryptor.encrypt_probe(rows[8])
        ready = evaluator.prepare(probe)
        result = evaluator.score(ready.probe, tiles)
    scores = opener.open(result, SIGMA)
    wanted = np.zeros(SWIFT.degree)
    wanted[3 : 3 + 8 * DIMENSION : DIMENSION] = rows[:8] @ rows[8]
    assert np.abs(scores - wanted).max() < 8 * SIGMA
    squared = opener.open(ready.norm, SIGMA)
    assert squared[0] == pytest.approx(1.0, abs=8 * SIGMA)
    with pytest.raises(InvalidInput, match="a probe_row is never opened"):
        opener.open(probe, SIGMA)


def test_shares_only_ever_meet_a_rerandomised_ciphertext(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ceremony = finished(threshold=2, count=3)
    ciphertext = sealed(ceremony, Kind.RESULT, np.zeros(SWIFT.degree))
    met: list[Ciphertext] = []

    def recorded(
        share: Share,
        active: list[int],
        ciphertext: Ciphertext,
        dimension: int,
        sigma: float,
        stream: SecretStream,
    ) -> npt.NDArray[np.uint32]:
        met.append(ciphertext)
        return partial_decryption(share, active, ciphertext, dimension, sigma, stream)

    monkeypatch.setattr("underseal_auditor.keys.decryption.partial_decryption", recorded)
    opener = Opener(ceremony.shares[:2], ceremony.bundle)
    for _ in range(2):
        opener.open(ciphertext, SIGMA)
    seconds = [ciphertext.residues[1], met[0].residues[1], met[2].residues[1]]
    assert len(met) == 4
    for left, right in combinations(seconds, 2):
        assert (left == right).mean() < 1e-3


# Refusals.


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in OPENED])
def test_stored_columns_and_probes_are_never_opened(kind: Kind) -> None:
    ceremony = finished()
    ciphertext = random_ciphertext(SWIFT, kind)
    with pytest.raises(InvalidInput, match="is never opened"):
        Opener(ceremony.shares, ceremony.bundle).open(ciphertext, SIGMA)
    with pytest.raises(InvalidInput, match="is never opened"):
        partial_decryption(ceremony.shares[0], [1], ciphertext, DIMENSION, SIGMA, SecretStream())


@pytest.mark.parametrize("sigma", [0.0, -1.0, 2.0**-60, 2.0**-17, 1.0, float("inf"), float("nan")])
def test_opening_without_enough_noise_is_refused(sigma: float) -> None:
    ceremony = finished()
    ciphertext = random_ciphertext(SWIFT, Kind.RESULT)
    with pytest.raises(InvalidInput, match="noise"):
        Opener(ceremony.shares, ceremony.bundle).open(ciphertext, sigma)


@pytest.mark.parametrize("name", PROFILES)
def test_noise_of_the_release_policy_is_in_range(name: str) -> None:
    for kind in OPENED:
        for sigma in (2.0**-12.6, 2.0**-10.2):
            ciphertext = random_ciphertext(PROFILES[name], kind)
            deviation = noise_deviation(ciphertext, 512, sigma)
            assert deviation == sigma * kind.scale(PROFILES[name], 512)


@pytest.mark.parametrize("level", [SWIFT.result_level + 1, SWIFT.fresh_level])
def test_ciphertext_at_the_level_of_another_kind_is_refused(level: int) -> None:
    share = finished().shares[0]
    wrong = Ciphertext(SWIFT, Kind.RESULT, np.ones((2, level, SWIFT.degree), dtype=np.uint32))
    with pytest.raises(InvalidInput, match="shape of its kind"):
        partial_decryption(share, [1], wrong, DIMENSION, SIGMA, SecretStream())


def test_ciphertext_of_another_profile_is_refused() -> None:
    ceremony = finished()
    ciphertext = random_ciphertext(PROFILES["compact"], Kind.RESULT)
    with pytest.raises(Mismatch, match="another profile"):
        Opener(ceremony.shares, ceremony.bundle).open(ciphertext, SIGMA)
    with pytest.raises(Mismatch, match="another profile"):
        partial_decryption(ceremony.shares[0], [1], ciphertext, DIMENSION, SIGMA, SecretStream())


@pytest.mark.parametrize("active", [[], [1], [2, 3], [1, 1], [1, 4], [0, 1], [1, 2, 3]])
def test_wrong_active_set_is_refused(active: list[int]) -> None:
    share = finished(threshold=2, count=3).shares[0]
    ciphertext = random_ciphertext(SWIFT, Kind.RESULT)
    with pytest.raises(InvalidInput):
        partial_decryption(share, active, ciphertext, DIMENSION, SIGMA, SecretStream())


def test_foreign_or_repeated_shares_are_refused() -> None:
    ceremony = finished(threshold=2, count=3)
    first = ceremony.shares[0]
    with pytest.raises(Mismatch, match="another key epoch"):
        Opener(finished().shares, ceremony.bundle)
    with pytest.raises(InvalidInput, match="twice"):
        Opener([first, first], ceremony.bundle)
    foreign = Share(SWIFT, "00" * 32, 2, first.secret.copy(), first.pairs)
    with pytest.raises(Mismatch):
        Opener([first, foreign], ceremony.bundle)


def test_opening_does_not_change_the_share() -> None:
    ceremony = finished()
    before = ceremony.shares[0].secret.copy()
    ciphertext = sealed(ceremony, Kind.RESULT, np.zeros(SWIFT.degree))
    Opener(ceremony.shares, ceremony.bundle).open(ciphertext, SIGMA)
    assert np.array_equal(ceremony.shares[0].secret, before)
