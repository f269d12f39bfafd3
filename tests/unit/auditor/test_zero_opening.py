"""Zero tests opened by members with shares of one key."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from tests.auditor_world import DIMENSION, World, unit, world
from underseal_auditor.keys.joint_opening import OpeningFailed, OpeningOutOfTurn
from underseal_auditor.keys.zero_opening import Conditions, MemberZeroTests, fresh_occasion, seed_of
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.zero_test import LIMIT, VALUES, Claim, beyond, zero_test

SUBSETS = [(1, 2), (1, 3), (2, 3)]


def sound_claims(of: World) -> list[Claim]:
    """A probe's row, rows of three templates, and columns of forty."""
    encryptor, profile = of.encryptor, of.bundle.profile
    return [
        Claim(Kind.PROBE_ROW, beyond(profile, DIMENSION), [encryptor.encrypt_probe(unit(1, 5)[0])]),
        Claim(
            Kind.TEMPLATE_ROW,
            beyond(profile, 3 * DIMENSION),
            [encryptor.encrypt_row(unit(3, 6))] * 2,
        ),
        Claim(Kind.COLUMN, beyond(profile, 40), list(encryptor.encrypt_columns(unit(40, 7)))),
    ]


def members_of(
    of: World, active: tuple[int, ...], claims: Sequence[Sequence[Claim]]
) -> dict[int, MemberZeroTests]:
    """Each claim list makes one test."""
    salts = {point: secrets.token_bytes(32) for point in active}
    occasion = fresh_occasion(bytes(32), salts)
    tests = tuple(
        zero_test(of.operator.evaluator, seed_of(occasion, str(index)), some)
        for index, some in enumerate(claims)
    )
    conditions = Conditions(occasion, active, len(of.members), tests)
    return {point: MemberZeroTests(of.shares[point - 1], conditions) for point in active}


def concluded(members: Mapping[int, MemberZeroTests]) -> set[tuple[bool, ...]]:
    commitments = {point: member.commitment for point, member in members.items()}
    answers = {point: member.reveal(commitments) for point, member in members.items()}
    return {member.conclude(answers) for member in members.values()}


def with_key(ciphertext: Ciphertext, amplitude: float, scale: float) -> Ciphertext:
    """``K s`` in the plaintext, ``K`` being a constant: ``amplitude`` times the key."""
    level = ciphertext.residues.shape[1]
    primes = ciphertext.profile.data_primes[:level]
    constant = np.array([round(amplitude * scale) % prime for prime in primes], np.uint32)
    hidden = np.ascontiguousarray(np.broadcast_to(constant[:, None], ciphertext.residues.shape[1:]))
    residues = ciphertext.residues.copy()
    residues[1] = kernel.add(np.ascontiguousarray(residues[1]), hidden, primes)
    return Ciphertext(ciphertext.profile, ciphertext.kind, residues)


@pytest.mark.parametrize("active", SUBSETS)
@pytest.mark.parametrize("profile", ["guarded", "compact", "swift"])
def test_sound_ciphertexts_pass_with_any_members(profile: str, active: tuple[int, ...]) -> None:
    of = world(profile, 2, 3)
    claims = sound_claims(of)
    assert concluded(members_of(of, active, [claims[:1], claims[1:]])) == {(True, True)}


def test_one_member_alone() -> None:
    of = world("swift")
    assert concluded(members_of(of, (1,), [sound_claims(of)])) == {(True,)}


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_multiple_of_the_key_fails_everywhere(which: int) -> None:
    """In a probe, a row and one column of many; and it fails that test only."""
    of = world("swift", 2, 3)
    claims = sound_claims(of)
    bad = list(claims[which].ciphertexts)
    scale = claims[which].kind.scale(of.bundle.profile, DIMENSION)
    bad[-1] = with_key(bad[-1], 2.0**-11, scale)
    poisoned = Claim(claims[which].kind, claims[which].empty, bad)
    rest = [claim for index, claim in enumerate(claims) if index != which]
    assert concluded(members_of(of, (1, 3), [[poisoned], rest])) == {(False, True)}


def test_templates_beyond_their_slots_fail() -> None:
    of = world("swift", 2, 3)
    row = of.encryptor.encrypt_row(unit(3, 6))
    claims = [Claim(Kind.TEMPLATE_ROW, beyond(of.bundle.profile, 2 * DIMENSION), [row])]
    assert concluded(members_of(of, (1, 2), [claims])) == {(False,)}


def test_values_are_noise_of_the_stated_size() -> None:
    of = world("swift")
    claims = sound_claims(of)
    squares = []
    for _ in range(24):
        ((_, member),) = members_of(of, (1,), [claims]).items()
        answer = member.reveal({1: member.commitment})
        test = member._conditions.tests[0]  # what nobody else needs to see
        residues = np.frombuffer(answer[32:], "<u4").reshape(VALUES, -1).astype(np.int64)
        deviation = np.hypot(test.noise(1), test.error(1))
        squares.append(float(np.sum((np.array(test.integers(residues)) / deviation) ** 2)))
    assert VALUES * 0.6 < np.mean(squares) < VALUES * 1.5
    assert max(squares) < LIMIT


def test_single_answers_are_uniform() -> None:
    """Whoever holds no share learns nothing from fewer than all answers."""
    of = world("swift", 2, 3)
    members = members_of(of, (1, 2), [[sound_claims(of)[0]]])
    answer = members[1].reveal({p: m.commitment for p, m in members.items()})
    residues = np.frombuffer(answer[32:], "<u4").reshape(VALUES, -1)
    primes = of.bundle.profile.data_primes[: residues.shape[1]]
    fractions = residues / np.array(primes)
    assert 0.2 < fractions.mean() < 0.8
    assert fractions.min() < 0.25
    assert fractions.max() > 0.75


def test_answers_come_after_commitments_and_once() -> None:
    of = world("swift", 2, 3)
    members = members_of(of, (1, 2), [[sound_claims(of)[0]]])
    commitments = {point: member.commitment for point, member in members.items()}
    with pytest.raises(OpeningOutOfTurn):
        members[1].conclude({})
    with pytest.raises(OpeningFailed):
        members[1].reveal({1: commitments[1]})
    with pytest.raises(OpeningFailed):
        members[1].reveal({**commitments, 1: bytes(32)})
    answers = {point: member.reveal(commitments) for point, member in members.items()}
    with pytest.raises(OpeningOutOfTurn):
        members[1].reveal(commitments)
    with pytest.raises(OpeningFailed):
        members[1].conclude({1: answers[1]})
    changed = bytes((answers[2][0] ^ 1,)) + answers[2][1:]
    with pytest.raises(OpeningFailed, match="member 2"):
        members[1].conclude({1: answers[1], 2: changed})
