"""Amendments: their places, and who must have signed them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from underseal_core.amendment import Amendment, open_amendment, read_places, write_places
from underseal_core.errors import Damaged, InvalidInput, PermissionRefused
from underseal_core.roster import Generation, Roster
from underseal_core.signing import Envelope, Identity
from underseal_core.statements import Pin

EPOCH = "ab" * 32
MEMBERS = [Identity.generate() for _ in range(3)]
ROSTER = Roster(EPOCH, 2, Generation(0, EPOCH), tuple(member.public_key for member in MEMBERS))


def amendment(**changes: object) -> Amendment:
    pin = Pin(model_id="m", model_dimension=8, profile="swift", key_epoch=EPOCH)
    fields: dict[str, object] = {
        "gallery": "missing",
        "pin": pin,
        "generation": EPOCH,
        "token": "01" * 16,
        "enrolled_sha256": "02" * 32,
        "old_sha256": "03" * 32,
        "new_sha256": "04" * 32,
        "erased": write_places([1, 9]),
        "count": 2,
        "members": 2,
        "issued_at": "2026-01-01T00:00:00Z",
    }
    return Amendment.model_validate({**fields, **changes})


def signed_by(statement: Amendment, *identities: Identity) -> Envelope:
    envelopes = [statement.sign(identity) for identity in identities]
    signatures = tuple(envelope.signatures[0] for envelope in envelopes)
    return replace(envelopes[0], signatures=signatures)


@pytest.mark.parametrize("places", [(0,), (7,), (8,), (0, 1, 2), (5, 8000), tuple(range(8064))])
def test_places_come_back(places: tuple[int, ...]) -> None:
    assert read_places(write_places(places)) == places


@pytest.mark.parametrize("places", [(), (-1,), (1 << 14,)])
def test_impossible_places(places: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput):
        write_places(places)


def test_places_have_one_form() -> None:
    for text in ("", "0100", "00"):
        with pytest.raises(Damaged):
            read_places(text)


def test_k_members_sign() -> None:
    statement = amendment()
    for two in ((0, 1), (0, 2), (1, 2)):
        envelope = signed_by(statement, *(MEMBERS[index] for index in two))
        assert open_amendment(envelope, [ROSTER]) == statement
    assert statement.redaction().erased == (1, 9)


@pytest.mark.parametrize("who", ["one", "twice", "stranger", "other bytes"])
def test_fewer_than_k_do_not(who: str) -> None:
    statement, one = amendment(), MEMBERS[0]
    envelope = {
        "one": signed_by(statement, one),
        "twice": signed_by(statement, one, one),
        "stranger": signed_by(statement, one, Identity.generate()),
        "other bytes": replace(
            signed_by(statement, *MEMBERS), payload=amendment(count=3).payload()
        ),
    }[who]
    with pytest.raises(PermissionRefused):
        open_amendment(envelope, [ROSTER])


def test_members_of_another_generation_do_not_count() -> None:
    """Whoever dealt shares on signs as a member of then: the amendment says of when it is."""
    later = Roster(EPOCH, 2, Generation(1, "cd" * 32), (MEMBERS[0].public_key, b"x" * 32))
    envelope = signed_by(amendment(generation="cd" * 32), *MEMBERS[:2])
    with pytest.raises(PermissionRefused):
        open_amendment(envelope, [ROSTER, later])
    with pytest.raises(Damaged):
        open_amendment(envelope, [ROSTER])
    with pytest.raises(Damaged):
        open_amendment(MEMBERS[0].sign("text/plain", b"{}"), [ROSTER])
