"""The ceremony file and members' cards as bytes, and signed commitments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.oracles.ceremonies import finished, prepare
from underseal_auditor.keys.ceremony import ceremony_member
from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.member import Member
from underseal_auditor.keys.member_keys import MemberCard, OwnKeys
from underseal_auditor.keys.messages import CeremonyFailed, Commitment, Round
from underseal_auditor.keys.phases import Outcome, payload_size
from underseal_auditor.keys.signed import SignedCommitment
from underseal_core.errors import InvalidInput
from underseal_core.labels import OpeningKey
from underseal_core.scheme.profiles import SWIFT
from underseal_core.signing import Identity


def test_ceremony_file_survives_bytes() -> None:
    file = finished(threshold=2, count=3).file
    assert CeremonyFile.parse(file.to_bytes()) == file
    assert CeremonyFile.parse(file.to_bytes()).digest == file.digest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", True),
        ("threshold", "2"),
        ("threshold", 4),
        ("dimension", 15),
        ("profile", "rapid"),
        ("members", {}),
        ("members", []),
        ("members", [{"signing": "00"}]),
        ("label_key", "zz"),
        ("label_key", "00"),
        ("extra", 1),
    ],
)
def test_impossible_ceremony_file_is_refused(field: str, value: Any) -> None:
    fields = json.loads(finished(threshold=2, count=3).file.to_bytes())
    fields[field] = value
    data = json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()
    with pytest.raises(InvalidInput):
        CeremonyFile.parse(data)


def test_ceremony_file_has_one_form_only() -> None:
    data = finished(threshold=2, count=3).file.to_bytes()
    for other in (data + b"\n", json.dumps(json.loads(data)).encode(), b"", b"[", b"[" * 5000):
        with pytest.raises(InvalidInput):
            CeremonyFile.parse(other)


def test_member_keys_survive_the_disk(tmp_path: Path) -> None:
    for registrar in (False, True):
        keys = OwnKeys.generate(OpeningKey.generate() if registrar else None)
        path = tmp_path / f"{registrar}"
        keys.save(path, b"correct horse")
        again = OwnKeys.load(path, b"correct horse")
        assert again.card(b"s" * 32) == keys.card(b"s" * 32)
        card = keys.card(b"s" * 32)
        assert MemberCard.parse(card.to_bytes()) == card
        assert (card.label is not None) == registrar


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"sealing":"00","signing":"00"}'])
def test_what_is_no_card_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        MemberCard.parse(data)


def test_commitment_counts_only_with_its_senders_signature_in_this_ceremony() -> None:
    file, members, _ = prepare(SWIFT, 16, 2, 3)
    other, _, _ = prepare(SWIFT, 16, 2, 3)
    commitment = Commitment(Round.NONCE, 2, b"d" * 32)
    signed = SignedCommitment.make(commitment, file, members[1].identity)
    assert signed.verified(file) == commitment
    forged = [
        SignedCommitment.make(commitment, file, Identity.generate()),
        SignedCommitment.make(commitment, file, members[0].identity),
        SignedCommitment.make(commitment, other, members[1].identity),
        SignedCommitment(Commitment(Round.SIGNATURE, 2, b"d" * 32), signed.signature),
        SignedCommitment(Commitment(Round.NONCE, 2, b"e" * 32), signed.signature),
    ]
    for one in forged:
        with pytest.raises(CeremonyFailed, match="not signed"):
            one.verified(file)


def test_payload_size_is_that_of_every_message(monkeypatch: pytest.MonkeyPatch) -> None:
    file, members, _ = prepare(SWIFT, 16, 2, 3)
    machines = [
        ceremony_member(file, point, keys.identity, keys.opening)
        for point, keys in enumerate(members, start=1)
    ]
    sizes: dict[tuple[Round, int], int] = {}
    receive = Member.receive

    def measured(self: Member[Outcome], reveals: Any) -> None:
        for reveal in reveals:
            sizes[Round(reveal.round), reveal.sender] = len(reveal.payload)
        receive(self, reveals)

    monkeypatch.setattr(Member, "receive", measured)
    for _ in Round:
        commitments = [machine.commit() for machine in machines]
        reveals = [machine.reveal(commitments) for machine in machines]
        for machine in machines:
            machine.receive(reveals)
    assert len(sizes) == 3 * len(Round)
    assert all(payload_size(file, *sent) == size for sent, size in sizes.items())
    assert payload_size(file, Round.NONCE, 1) == 32
