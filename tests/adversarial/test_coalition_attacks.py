"""Single answers are hidden: what a coalition of k-1 sees of the others is their sum."""

from __future__ import annotations

from fractions import Fraction
from math import prod

import numpy as np
import numpy.typing as npt
import pytest

from tests.oracles.ceremonies import DIMENSION, Finished, finished, joint_secret
from underseal_auditor.keys.decryption import (
    combine,
    encrypt_zero,
    partial_decryption,
    rerandomise,
    weigh,
)
from underseal_auditor.keys.elements import times_integers, total
from underseal_auditor.keys.pairs import PairSecrets
from underseal_auditor.keys.sampling import SecretStream
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.encoding import encode_polynomials
from underseal_core.scheme.profiles import SWIFT

Residues = npt.NDArray[np.uint32]
Integers = npt.NDArray[np.object_]

LEVEL = SWIFT.result_level
PRIMES = SWIFT.data_primes[:LEVEL]
MODULUS = prod(PRIMES)
SIGMA = 2.0**-6
ACTIVE = (1, 2, 3)
COALITION = (4, 5)


def opened_for_others() -> tuple[Finished, Ciphertext]:
    """A 3-of-5 key and an encryption of zero, re-randomised by 1, 2 and 3."""
    ceremony = finished(threshold=3, count=5)
    made = [
        encrypt_zero(ceremony.bundle.public_key, SWIFT, LEVEL, SecretStream()) for _ in range(4)
    ]
    return ceremony, rerandomise(Ciphertext(SWIFT, Kind.RESULT, made[0]), made[1:])


def answers(ceremony: Finished, ciphertext: Ciphertext) -> dict[int, Residues]:
    return {
        point: partial_decryption(
            ceremony.shares[point - 1], ACTIVE, ciphertext, DIMENSION, SIGMA, SecretStream()
        )
        for point in ACTIVE
    }


def test_auditor_that_combines_sees_one_coefficient_of_a_norm() -> None:
    """It knows its own share and veils nothing: the veil of one other is enough."""
    ceremony = finished(threshold=2, count=3)
    level = Kind.NORM.level(SWIFT)
    primes = SWIFT.data_primes[:level]
    wanted = np.random.default_rng(3).uniform(-1, 1, SWIFT.degree)
    zeros = [
        encrypt_zero(ceremony.bundle.public_key, SWIFT, level, SecretStream()) for _ in range(3)
    ]
    plain = encode_polynomials(wanted, SWIFT, level, Kind.NORM.scale(SWIFT, DIMENSION))
    zeros[0][0] = kernel.add(zeros[0][0], plain, primes)
    fresh = rerandomise(Ciphertext(SWIFT, Kind.NORM, zeros[0]), zeros[1:])
    honest, own = ceremony.shares[0], ceremony.shares[1]
    answer = partial_decryption(honest, (1, 2), fresh, DIMENSION, SIGMA, SecretStream())
    exact = kernel.multiply(weigh(own, (1, 2), primes), fresh.residues[1], primes)
    bare = kernel.add(exact, own.pairs.mask((1, 2), fresh), primes)
    seen = combine(fresh, [answer, bare], DIMENSION)
    assert abs(seen[0] - wanted[0]) < 6 * SIGMA
    assert abs(float(np.corrcoef(seen[1:], wanted[1:])[0, 1])) < 0.1


def factor(point: int, active: tuple[int, ...]) -> Fraction:
    others = [other for other in active if other != point]
    return Fraction(prod(others), prod(other - point for other in others))


def scaled(element: Residues, by: Fraction) -> Residues:
    factors = tuple(by.numerator * pow(by.denominator, -1, prime) % prime for prime in PRIMES)
    return times_integers(element, factors, PRIMES)


def lifted(element: Residues) -> Integers:
    """Integers in [0, MODULUS) of an element in NTT form."""
    values: Integers = np.zeros(SWIFT.degree, dtype=object)
    for row, prime in zip(kernel.ntt_inverse(element, PRIMES), PRIMES, strict=True):
        rest = MODULUS // prime
        values = values + row.astype(object) * (rest * pow(rest, -1, prime))
    return values % MODULUS


def read_error(ceremony: Finished, ciphertext: Ciphertext, answer: Residues) -> tuple[float, int]:
    """What members 4 and 5 read of the ciphertext's error from member 1's answer alone.

    Returns how often they are right about the error, and modulo what.
    """
    group = (*COALITION, 1)
    beta = factor(1, ACTIVE) / factor(1, group)
    c0, c1 = ciphertext.residues
    known = [answer, scaled(c0, beta)]
    for other in COALITION:
        product = kernel.multiply(ceremony.shares[other - 1].secret[:LEVEL], c1, PRIMES)
        known.append(scaled(product, beta * factor(other, group)))
    leak = lifted(total(known, PRIMES))
    secret = joint_secret(ceremony.shares[:3])[:LEVEL]
    error = lifted(total([c0, kernel.multiply(c1, secret, PRIMES)], PRIMES))
    error = np.where(error > MODULUS // 2, error - MODULUS, error)
    base = beta.denominator
    read = [round(Fraction(int(value) * base, MODULUS)) % base for value in leak]
    inverse = pow(beta.denominator, -1, MODULUS)
    true = [
        round(Fraction(int(value) * beta.numerator * inverse % MODULUS * base, MODULUS)) % base
        for value in error
    ]
    return float(np.mean(np.array(read) == np.array(true))), base


def test_coalition_reads_nothing_from_a_single_answer() -> None:
    ceremony, ciphertext = opened_for_others()
    right, base = read_error(ceremony, ciphertext, answers(ceremony, ciphertext)[1])
    assert base > 1
    assert right == pytest.approx(1 / base, abs=0.04)


def test_without_masks_a_single_answer_would_show_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def bare(self: PairSecrets, active: tuple[int, ...], ciphertext: Ciphertext) -> Residues:
        return np.zeros((LEVEL, SWIFT.degree), dtype=np.uint32)

    monkeypatch.setattr(PairSecrets, "mask", bare)
    ceremony, ciphertext = opened_for_others()
    right, _ = read_error(ceremony, ciphertext, answers(ceremony, ciphertext)[1])
    assert right == 1.0


def test_masks_cancel_in_the_sum_of_all_answers_only() -> None:
    ceremony, ciphertext = opened_for_others()
    made = answers(ceremony, ciphertext)
    assert np.abs(combine(ciphertext, list(made.values()), DIMENSION)).max() < 6 * SIGMA
    masks = [ceremony.shares[point - 1].pairs.mask(ACTIVE, ciphertext) for point in ACTIVE]
    assert not total(masks, PRIMES).any()
    for mask in masks:
        values = mask[0].astype(np.float64) / PRIMES[0]
        assert values.mean() == pytest.approx(0.5, abs=0.02)


def test_masks_differ_for_every_opening_and_group() -> None:
    ceremony, ciphertext = opened_for_others()
    _, other = opened_for_others()
    pairs = ceremony.shares[0].pairs
    made = [
        pairs.mask(ACTIVE, ciphertext),
        pairs.mask(ACTIVE, other),
        pairs.mask((1, 2, 4), ciphertext),
    ]
    for index, mask in enumerate(made):
        for later in made[index + 1 :]:
            assert (mask == later).mean() < 1e-3


def test_members_that_were_shown_different_ciphertexts_open_nothing() -> None:
    ceremony, ciphertext = opened_for_others()
    _, other = opened_for_others()
    mixed = answers(ceremony, ciphertext)
    mixed[1] = answers(ceremony, other)[1]
    assert np.abs(combine(ciphertext, list(mixed.values()), DIMENSION)).max() > 1
