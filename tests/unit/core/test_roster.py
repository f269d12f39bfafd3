"""Successions: who holds the shares now, followed from the bundle on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.oracles.ceremonies import finished
from underseal_core.errors import Damaged, NotFound, PermissionRefused, UndersealError
from underseal_core.log_entries import Succession, encode_entry
from underseal_core.roster import Generation, Roster, follow, load_rosters
from underseal_core.signing import Envelope, Identity

CEREMONY = finished(threshold=2, count=3)
BUNDLE = CEREMONY.bundle
OLD = [member.identity for member in CEREMONY.members]
FIRST = Roster.first(BUNDLE)
NEWCOMER = Identity.generate()


def succession(
    members: Sequence[Identity], before: Roster = FIRST, dealers: tuple[int, ...] = (1, 2)
) -> Succession:
    return Succession(
        key_epoch=before.epoch,
        generation=before.generation.number + 1,
        previous=before.generation.sha256,
        members=tuple(member.public_key.hex() for member in members),
        dealers=dealers,
        transcript="7" * 64,
    )


def signed(statement: Succession, signers: Sequence[Identity]) -> Envelope:
    envelopes = [statement.sign(signer) for signer in signers]
    signatures = tuple(envelope.signatures[0] for envelope in envelopes)
    return Envelope(Succession.payload_type, statement.payload(), signatures)


def test_first_roster_is_the_bundles() -> None:
    assert FIRST.members == BUNDLE.members
    assert (FIRST.epoch, FIRST.threshold) == (BUNDLE.epoch, 2)
    assert FIRST.generation == Generation(0, BUNDLE.epoch)


def test_chain_of_successions_is_followed(tmp_path: Path) -> None:
    refreshed = succession(OLD)
    second = FIRST.succeeded(signed(refreshed, OLD))
    assert (second.members, second.generation.number) == (FIRST.members, 1)
    assert second.generation.sha256 == refreshed.sha256()
    after = [*OLD[:2], NEWCOMER]
    replaced = succession(after, second)
    third = second.succeeded(signed(replaced, after))
    assert third.members == tuple(member.public_key for member in after)
    entries = [encode_entry(signed(refreshed, OLD)), encode_entry(signed(replaced, after))]
    assert follow(BUNDLE, entries) == [FIRST, second, third]
    path = tmp_path / "successions.jsonl"
    assert load_rosters(BUNDLE, tmp_path / "bundle.usb", None) == [FIRST]
    path.write_bytes(b"\n".join(entries) + b"\n")
    assert load_rosters(BUNDLE, tmp_path / "bundle.usb", None)[-1] == third
    assert load_rosters(BUNDLE, Path("elsewhere"), path)[-1] == third
    with pytest.raises(NotFound):
        load_rosters(BUNDLE, tmp_path / "bundle.usb", tmp_path / "missing.jsonl")
    for wrong in (entries[1:], entries[::-1], entries[:1] * 2):
        with pytest.raises(Damaged, match="does not follow"):
            follow(BUNDLE, wrong)
    with pytest.raises(Damaged):
        follow(BUNDLE, [b"{}"])


@pytest.mark.parametrize(
    "changes",
    [
        {"key_epoch": "0" * 64},
        {"generation": 2},
        {"previous": "0" * 64},
        {"dealers": (1,)},
        {"dealers": (1, 2, 3)},
        {"dealers": (2, 1)},
        {"dealers": (1, 1)},
        {"dealers": (1, 4)},
    ],
)
def test_succession_that_does_not_follow_is_refused(changes: dict[str, object]) -> None:
    statement = succession(OLD).model_copy(update=changes)
    with pytest.raises(Damaged):
        FIRST.succeeded(signed(statement, OLD))


@pytest.mark.parametrize("members", [OLD[:2], [*OLD[:2], OLD[0]], [*OLD, NEWCOMER]])
def test_number_of_members_does_not_change(members: list[Identity]) -> None:
    with pytest.raises(Damaged):
        FIRST.succeeded(signed(succession(members), members))


def test_takeover_without_k_old_members_is_refused() -> None:
    """Strangers, and k - 1 members with strangers, cannot appoint themselves."""
    strangers = [Identity.generate() for _ in range(3)]
    for members in (strangers, [OLD[0], *strangers[1:]]):
        for dealers in ((1, 2), (2, 3), (1, 3)):
            with pytest.raises(Damaged, match="not dealt by 2"):
                FIRST.succeeded(signed(succession(members, dealers=dealers), members))


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_succession_needs_every_members_signature(missing: int) -> None:
    after = [*OLD[:2], NEWCOMER]
    signers = [member for index, member in enumerate(after) if index != missing]
    with pytest.raises(PermissionRefused, match="not signed by all"):
        FIRST.succeeded(signed(succession(after), [*signers, OLD[2]]))


def test_changed_succession_is_refused() -> None:
    envelope = signed(succession(OLD), OLD)
    forged = succession([*OLD[:2], NEWCOMER]).payload()
    with pytest.raises(UndersealError):
        FIRST.succeeded(Envelope(envelope.payload_type, forged, envelope.signatures))
    with pytest.raises(Damaged, match="not a succession"):
        FIRST.succeeded(Envelope("application/json", envelope.payload, envelope.signatures))
