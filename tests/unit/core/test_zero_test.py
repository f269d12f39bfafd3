"""The public half of the zero test, against plain integers."""

from __future__ import annotations

from math import exp, factorial

import numpy as np
import pytest

from tests.oracles.seal_evaluation import F64, SealParty, party, unit_vectors
from tests.oracles.seal_keys import decrypt
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.profiles import GUARDED, SWIFT, Profile
from underseal_core.scheme.zero_test import LIMIT, VALUES, Claim, ZeroTest, beyond, zero_test

DIMENSION = 16
SEED = bytes(range(32))


def made(profile: Profile, count: int) -> tuple[list[Ciphertext], list[Ciphertext]]:
    """Rows of one template each, and the columns of ``count`` templates."""
    encryptor = Encryptor(profile, DIMENSION, party(profile, DIMENSION).public_key)
    vectors = unit_vectors(np.random.default_rng(3), count, DIMENSION)
    rows = [encryptor.encrypt_row(vector[None]) for vector in vectors]
    return rows, list(encryptor.encrypt_columns(vectors))


def evaluator_of(profile: Profile) -> Evaluator:
    return Evaluator(profile, DIMENSION, party(profile, DIMENSION).keys)


def test_sums_are_those_of_plain_integers() -> None:
    _, columns = made(SWIFT, 5)
    columns += made(SWIFT, 3)[1]  # more than one matrix product takes
    with evaluator_of(SWIFT) as evaluator:
        (tail,) = zero_test(evaluator, SEED, [Claim(Kind.COLUMN, beyond(SWIFT, 5), columns)]).tails
        # One ciphertext at a time shows its weight: 1 everywhere times the weight.
        ones = np.ones_like(columns[0].residues)
        weights = []
        for index in range(len(columns)):
            alone = [
                Ciphertext(SWIFT, Kind.COLUMN, ones if i == index else np.zeros_like(ones))
                for i in range(len(columns))
            ]
            only = zero_test(evaluator, SEED, [Claim(Kind.COLUMN, beyond(SWIFT, 5), alone)]).tails[
                0
            ]
            weights.append([int(v) for v in only.sums[:, 0, 0, 0]])
    prime = SWIFT.data_primes[1]
    signed = [[w - SWIFT.data_primes[0] if w > 255 else w for w in column] for column in weights]
    assert all(w % 2 == 1 and -255 <= w <= 255 for column in signed for w in column)
    assert len({w for column in signed for w in column}) > 100
    for p, component, position in [(0, 0, 0), (3, 1, 4095), (7, 1, 1234)]:
        wanted = sum(
            column[p] * int(c.residues[component, 1, position])
            for column, c in zip(signed, columns, strict=True)
        )
        assert int(tail.sums[p, component, 1, position]) == wanted % prime


def test_projection_is_that_of_plain_integers() -> None:
    with evaluator_of(SWIFT) as evaluator:
        test = zero_test(
            evaluator, SEED, [Claim(Kind.COLUMN, beyond(SWIFT, 4000), made(SWIFT, 2)[1])]
        )
    primes = SWIFT.data_primes[: SWIFT.gallery_level]
    rng = np.random.default_rng(8)
    shape = (VALUES, len(primes), SWIFT.degree)
    coefficients = rng.integers(0, np.array(primes)[:, None], shape).astype(np.uint32)
    found = test.project(test.tails[0], coefficients)
    for p in (0, 7):
        for level, prime in enumerate(primes):
            wanted = sum(
                int(test.weights[p, j]) * int(coefficients[p, level, j])
                for j in range(4000, SWIFT.degree)
            )
            assert int(found[p, level]) == wanted % prime


@pytest.mark.parametrize("profile", [GUARDED, SWIFT])
def test_error_is_the_stated_one(profile: Profile) -> None:
    """Opened by SEAL, without noise, rows and columns have the error that is claimed."""
    seal = party(profile, DIMENSION)
    rows, columns = made(profile, 20)
    claims = [
        Claim(Kind.TEMPLATE_ROW, beyond(profile, DIMENSION), rows),
        Claim(Kind.COLUMN, beyond(profile, 20), columns),
    ]
    with evaluator_of(profile) as evaluator:
        for claim in claims:
            ratios = []
            for trial in range(8):
                test = zero_test(evaluator, bytes([trial]) * 32, [claim])
                ratios.append(_values(seal, test) / test.error(1))
            # 64 Gaussian values: their root mean square is 1 within 9 %; four times that, and
            # encryptions have a little less error than a rounding of uniform residues.
            assert 0.6 < float(np.sqrt(np.mean(np.square(ratios)))) < 1.4


def _values(seal: SealParty, test: ZeroTest) -> F64:
    primes = test.profile.data_primes[: test.profile.gallery_level]
    (tail,) = test.tails
    messages = [decrypt(test.profile, seal.secret, sums, 1.0) for sums in tail.sums]
    coefficients = kernel.ntt_inverse(np.ascontiguousarray(messages), primes)
    return np.array([float(v) for v in test.integers(test.project(tail, coefficients))])


def test_limit_is_the_stated_quantile() -> None:
    half = LIMIT / 2
    tail = exp(-half) * sum(half**k / factorial(k) for k in range(VALUES // 2))
    assert tail == pytest.approx(7.6e-11, rel=0.01)
