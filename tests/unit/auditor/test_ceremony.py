from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from tests.oracles import ntt
from tests.oracles.ceremonies import DIMENSION, finished, joint_secret, prepare
from tests.oracles.ceremony_steps import Mutation, deliver_forged, machines_before, step
from underseal_auditor.keys.ceremony import (
    MemberSecrets,
    ceremony_member,
    run_local,
    run_sole,
)
from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.contribution import SecretPart
from underseal_auditor.keys.elements import automorphism
from underseal_auditor.keys.known_answer import SIGMA
from underseal_auditor.keys.messages import CeremonyFailed, Commitment, OutOfTurn, Reveal, Round
from underseal_auditor.keys.sampling import Stream
from underseal_auditor.keys.sharing import deal
from underseal_core.bundle import parse_bundle
from underseal_core.errors import InvalidInput
from underseal_core.labels import OpeningKey
from underseal_core.ring.packing import unpack
from underseal_core.scheme.ciphertext import Kind
from underseal_core.scheme.fields import pack_residues, residues_size
from underseal_core.scheme.profiles import SWIFT, Profile
from underseal_core.signing import Identity

QUORUMS = [(1, 1), (2, 3), (3, 5)]


@pytest.mark.parametrize(("threshold", "count"), QUORUMS)
def test_ceremony_yields_a_signed_bundle_and_shares(threshold: int, count: int) -> None:
    ceremony = finished(threshold=threshold, count=count)
    bundle = parse_bundle(ceremony.bundle.to_bytes())
    assert (bundle.threshold, len(bundle.members)) == (threshold, count)
    assert bundle.members == tuple(m.identity.public_key for m in ceremony.members)
    assert bundle.label_key == ceremony.label_key.public
    assert bundle.transcript != bytes(32)
    assert [share.point for share in ceremony.shares] == list(range(1, count + 1))
    assert {share.epoch for share in ceremony.shares} == {bundle.epoch}


@pytest.mark.parametrize(("threshold", "count"), QUORUMS)
def test_every_group_of_k_holds_the_secret_and_no_smaller_group_does(
    threshold: int, count: int
) -> None:
    shares = finished(threshold=threshold, count=count).shares
    secret = joint_secret(shares)
    for group in combinations(shares, threshold):
        assert np.array_equal(joint_secret(group), secret)
    for group in combinations(shares, threshold - 1):
        if group:
            assert (joint_secret(group) != secret).mean() > 0.99


@pytest.mark.parametrize(("threshold", "count"), QUORUMS)
def test_joint_secret_is_a_sum_of_ternary_polynomials(threshold: int, count: int) -> None:
    secret = joint_secret(finished(threshold=threshold, count=count).shares)
    primes = SWIFT.key_primes
    centred = []
    for row, prime in zip(secret, primes, strict=True):
        values = ntt.inverse(row, prime).astype(np.int64)
        centred.append(np.where(values > prime // 2, values - prime, values))
    assert all(np.array_equal(centred[0], other) for other in centred)
    assert np.abs(centred[0]).max() <= count
    assert np.var(centred[0]) == pytest.approx(count * 2 / 3, rel=0.15)


def test_two_ceremonies_share_nothing() -> None:
    first = run_sole(SWIFT, 2, Identity.generate())
    second = run_sole(SWIFT, 2, Identity.generate())
    assert first.bundle.epoch != second.bundle.epoch
    same = first.bundle.public_key == second.bundle.public_key
    assert same.mean() < 1e-3
    assert first.label_key.public != second.label_key.public


def test_progress_names_every_round() -> None:
    seen: list[Round] = []
    run_sole(SWIFT, 2, Identity.generate(), seen.append)
    assert seen == list(Round)


def test_members_secret_is_overwritten_once_dealt(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Recorded(SecretPart):
        def __init__(self, profile: Profile, secrets: Stream, noise: Stream) -> None:
            super().__init__(profile, secrets, noise)
            assert self.element.any()
            made.append(self)

    monkeypatch.setattr("underseal_auditor.keys.phases.SecretPart", Recorded)
    run_sole(SWIFT, 2, Identity.generate())
    assert len(made) == 1
    assert not made[0].element.any()


def test_rotated_secrets_are_overwritten_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[npt.NDArray[np.int64]] = []

    def recorded(values: npt.NDArray[np.int64], element: int) -> npt.NDArray[np.int64]:
        made.append(automorphism(values, element))
        assert made[-1].any()
        return made[-1]

    monkeypatch.setattr("underseal_auditor.keys.contribution.automorphism", recorded)
    run_sole(SWIFT, 4, Identity.generate())
    assert len(made) == 2
    assert not any(values.any() for values in made)


# Cheating. An attacker's program may send anything, so its messages are forged here on the way.


def flip(position: int) -> Mutation:
    def mutate(payload: bytes) -> bytes:
        changed = bytearray(payload)
        changed[position] ^= 1
        return bytes(changed)

    return mutate


@pytest.mark.parametrize("round_", list(Round))
def test_message_that_differs_from_its_commitment_is_refused(round_: Round) -> None:
    machines = machines_before(round_)
    commitments = [machine.commit() for machine in machines]
    reveals = [machine.reveal(commitments) for machine in machines]
    forged = replace(reveals[2], payload=flip(0)(reveals[2].payload))
    with pytest.raises(CeremonyFailed, match="member 3 revealed something else"):
        machines[0].receive([*reveals[:2], forged])
    salted = replace(reveals[2], salt=bytes(32))
    with pytest.raises(CeremonyFailed, match="member 3 revealed something else"):
        machines[1].receive([*reveals[:2], salted])


@pytest.mark.parametrize("round_", [round_ for round_ in Round if round_ != Round.SIGNATURE])
@pytest.mark.parametrize("mutate", [lambda p: p[:-1], lambda p: p + b"\x00", lambda p: b""])
def test_message_of_the_wrong_length_is_refused(round_: Round, mutate: Mutation) -> None:
    machines = machines_before(round_)
    with pytest.raises(CeremonyFailed, match="member 3 is malformed"):
        deliver_forged(machines, mutate)


@pytest.mark.parametrize(
    "round_",
    [
        Round.CONTRIBUTION,
        Round.RELINEARISATION,
        Round.DUMMY_SEARCH,
        Round.PARTIAL_DECRYPTION,
    ],
)
def test_residue_that_is_not_below_its_prime_is_refused(round_: Round) -> None:
    machines = machines_before(round_)
    with pytest.raises(CeremonyFailed, match="member 3 is malformed"):
        deliver_forged(machines, lambda payload: b"\xff\xff\xff\xff" + payload[4:])


def test_changed_sealed_share_is_refused() -> None:
    machines = machines_before(Round.RELINEARISATION)
    with pytest.raises(CeremonyFailed, match="member 3 is malformed"):
        deliver_forged(machines, flip(-1 - 2 * (1136 + 4 * 4 * 4096)))


def test_wrong_signature_is_refused() -> None:
    machines = machines_before(Round.SIGNATURE)
    with pytest.raises(CeremonyFailed, match="member 3 did not sign"):
        deliver_forged(machines, flip(0))


def test_member_that_deals_a_wrong_share_fails_the_known_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machines = machines_before(Round.RELINEARISATION)
    calls = []

    def cheat(
        secret: npt.NDArray[np.uint32],
        threshold: int,
        members: int,
        primes: tuple[int, ...],
        stream: Stream,
    ) -> list[npt.NDArray[np.uint32]]:
        values = deal(secret, threshold, members, primes, stream)
        calls.append(1)
        if len(calls) == 3:
            values[0][0, 0] ^= 1
        return values

    monkeypatch.setattr("underseal_auditor.keys.phases.deal", cheat)
    step(machines)
    step(machines)
    with pytest.raises(CeremonyFailed, match="do not open the known answer"):
        step(machines)


def test_wrong_relinearisation_part_fails_the_known_answer() -> None:
    machines = machines_before(Round.RELINEARISATION)
    commitments = [machine.commit() for machine in machines]
    reveals = [machine.reveal(commitments) for machine in machines]
    payload = reveals[2].payload
    count = SWIFT.fresh_level + 1
    size = residues_size(SWIFT, count)
    part = unpack(payload[:size], SWIFT.key_primes[:count], (count, SWIFT.degree))
    noisy = pack_residues(SWIFT, [part[:, ::-1]])
    forged = replace(reveals[2], payload=noisy + payload[size:])
    commitments[2] = forged.commitment(machines[0]._file.digest)
    for machine in machines:
        machine._commitments = tuple(commitments)
        machine.receive([*reveals[:2], forged])
    step(machines)
    with pytest.raises(CeremonyFailed, match="do not open the known answer"):
        step(machines)


def test_multiple_of_the_secret_hidden_in_the_noise_fails_the_known_answer() -> None:
    """``(0, K)`` added to a mask opens as ``K s``: with K near the noise, almost the whole key."""
    machines = machines_before(Round.DUMMY_SEARCH)
    multiple = int(0.6 * SIGMA * Kind.RESULT.scale(SWIFT, 2))

    def add_multiple(payload: bytes) -> bytes:
        size, primes = 2 * 2 * residues_size(SWIFT, 1), SWIFT.data_primes[:1]
        masks = unpack(payload[-size:], primes, (2, 2, 1, SWIFT.degree))
        masks[:, 1] = (masks[:, 1] + multiple) % primes[0]
        return payload[:-size] + pack_residues(SWIFT, [masks])

    commitments = [machine.commit() for machine in machines]
    reveals = [machine.reveal(commitments) for machine in machines]
    forged = replace(reveals[2], payload=add_multiple(reveals[2].payload))
    commitments[2] = forged.commitment(machines[0]._file.digest)
    for machine in machines:
        machine._commitments = tuple(commitments)
        machine.receive([*reveals[:2], forged])
    with pytest.raises(CeremonyFailed, match="do not open the known answer"):
        step(machines)


def test_members_that_were_shown_different_messages_do_not_sign_the_same_epoch() -> None:
    """A driver that forks the ceremony: member 2 saw another message of member 3."""
    machines = machines_before(Round.PARTIAL_DECRYPTION)
    machines[1]._transcript.add([Commitment(Round.NONCE, 3, bytes(32))], [])
    step(machines)
    with pytest.raises(CeremonyFailed, match="did not sign the same key epoch"):
        step(machines)


# Order of steps.


def test_steps_out_of_order_are_refused() -> None:
    first, second, third = machines_before(Round.NONCE)
    with pytest.raises(OutOfTurn):
        first.reveal([])
    own = first.commit()
    with pytest.raises(OutOfTurn):
        first.commit()
    with pytest.raises(OutOfTurn):
        first.reveal([own])
    commitments = [own, second.commit(), third.commit()]
    with pytest.raises(OutOfTurn):
        first.reveal(commitments[::-1])
    with pytest.raises(OutOfTurn):
        first.receive([])
    reveal = first.reveal(commitments)
    with pytest.raises(OutOfTurn):
        first.reveal(commitments)
    with pytest.raises(OutOfTurn):
        first.receive([reveal])
    with pytest.raises(OutOfTurn):
        _ = first.outcome


def test_message_of_another_round_is_refused() -> None:
    machines = machines_before(Round.NONCE)
    commitments = [machine.commit() for machine in machines]
    stale = replace(commitments[2], round=Round.CONTRIBUTION)
    with pytest.raises(OutOfTurn):
        machines[0].reveal([*commitments[:2], stale])
    reveals = [machine.reveal(commitments) for machine in machines]
    with pytest.raises(OutOfTurn):
        machines[0].receive([*reveals[:2], replace(reveals[2], round=Round.SIGNATURE)])


def test_own_commitment_changed_on_the_way_is_noticed() -> None:
    machines = machines_before(Round.NONCE)
    commitments = [machine.commit() for machine in machines]
    with pytest.raises(CeremonyFailed, match="commitment of member 1 was changed"):
        machines[0].reveal([replace(commitments[0], digest=bytes(32)), *commitments[1:]])


def test_finished_ceremony_takes_no_more_steps() -> None:
    (machine,) = machines_before(Round.SIGNATURE, count=1, threshold=1)
    step([machine])
    assert machine.outcome.bundle.signatures
    with pytest.raises(OutOfTurn, match="over"):
        machine.commit()


# The file.


def test_file_digest_covers_every_field() -> None:
    file, _, _ = prepare(SWIFT, DIMENSION, 2, 3)
    variants = [
        file,
        replace(file, dimension=8),
        replace(file, threshold=3),
        replace(file, members=file.members[::-1]),
        replace(file, label_key=OpeningKey.generate().public),
        replace(file, members=(*file.members[:2], replace(file.members[2], signing=bytes(32)))),
    ]
    assert len({variant.digest for variant in variants}) == len(variants)


@pytest.mark.parametrize(("threshold", "count"), [(0, 1), (2, 1), (-1, 3), (17, 33), (17, 32)])
def test_impossible_thresholds_are_refused(threshold: int, count: int) -> None:
    public = MemberSecrets(Identity.generate(), OpeningKey.generate()).public()
    members = tuple(replace(public, signing=bytes([i]) * 32) for i in range(count))
    with pytest.raises(InvalidInput):
        CeremonyFile(SWIFT, 16, threshold, members, public.sealing)


@pytest.mark.parametrize("dimension", [0, 1, 3, 100, 2048])
def test_impossible_dimensions_are_refused(dimension: int) -> None:
    public = MemberSecrets(Identity.generate(), OpeningKey.generate()).public()
    with pytest.raises(InvalidInput, match="power of two|outside"):
        CeremonyFile(SWIFT, dimension, 1, (public,), public.sealing)


def test_member_named_twice_is_refused() -> None:
    public = MemberSecrets(Identity.generate(), OpeningKey.generate()).public()
    with pytest.raises(InvalidInput, match="twice"):
        CeremonyFile(SWIFT, 16, 2, (public, public), public.sealing)


def test_foreign_keys_are_refused() -> None:
    file, members, _ = prepare(SWIFT, 2, 2, 2)
    with pytest.raises(InvalidInput, match="not the keys of member 1"):
        ceremony_member(file, 1, members[1].identity, members[1].opening)
    with pytest.raises(InvalidInput, match="no member 3"):
        ceremony_member(file, 3, members[0].identity, members[0].opening)
    with pytest.raises(InvalidInput, match="all members"):
        run_local(file, members[:1])


def test_salt_and_payload_cannot_be_shifted_into_each_other() -> None:
    left = Reveal(Round.NONCE, 1, bytes(32), b"\x01rest")
    right = Reveal(Round.NONCE, 1, bytes(32) + b"\x01", b"rest")
    assert left.commitment(b"f" * 32).digest == right.commitment(b"f" * 32).digest
    machines = machines_before(Round.NONCE, count=1, threshold=1)
    own = machines[0].reveal([machines[0].commit()])
    shifted = replace(own, salt=own.salt + own.payload[:1], payload=own.payload[1:])
    with pytest.raises(CeremonyFailed):
        machines[0].receive([shifted])
