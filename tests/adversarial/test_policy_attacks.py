"""A registrar or guardian that is given a policy which the auditors did not put in force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.auditor_world import (
    AGENCY,
    Desk,
    World,
    desk,
    fill,
    policy,
    policy_signatures,
    policy_text,
    unit,
    world,
    write_signed_policy,
)
from underseal_auditor.policy.document import Policy, load_policy
from underseal_auditor.policy.rulebook import Rulebook
from underseal_auditor.policy.signed import (
    SignedPolicy,
    approval_of,
    approving,
    countersign,
    load_signed,
    signatures_path,
    signed,
)
from underseal_auditor.registrar import Admission
from underseal_auditor.store.database import Database
from underseal_auditor.store.policies import PolicyMemory
from underseal_core.errors import Busy, Conflict, InvalidInput, Mismatch, PermissionRefused
from underseal_core.log_entries import PolicyInForce, open_entry
from underseal_core.roster import Roster
from underseal_core.signing import Envelope, Identity

PROFILE = "swift"


def three() -> World:
    """2 of 3."""
    return world(PROFILE, 2, 3)


def approved(rules: Policy, of: World) -> SignedPolicy:
    return signed(rules, policy_signatures(rules, of), Roster.first(of.bundle))


def test_unsigned_policy(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(policy_text(PROFILE))
    with pytest.raises(PermissionRefused, match="not signed"):
        load_signed(tmp_path / "policy.toml", Roster.first(three().bundle))


def test_policy_changed_after_it_was_signed(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    write_signed_policy(path, three(), policy_text(PROFILE))
    assert load_signed(path, Roster.first(three().bundle)).policy.document.serial == 1
    path.write_text(policy_text(PROFILE, top_k=9))
    with pytest.raises(PermissionRefused, match="another policy"):
        load_signed(path, Roster.first(three().bundle))


def test_budget_that_is_safe_with_the_keys_of_fewer_members_only() -> None:
    """Three members' keys have more error: fewer values may become visible."""
    of = world("guarded", 2, 3)
    roster, rules = Roster.first(of.bundle), policy(budget=30_000)
    with pytest.raises(InvalidInput, match="at most 25356 values are safe"):
        countersign(rules, roster, of.members[0], None)
    approval = approval_of(rules, roster)
    first, second = (approval.sign(member) for member in of.members[:2])
    envelope = Envelope(first.payload_type, first.payload, first.signatures + second.signatures)
    with pytest.raises(InvalidInput, match="at most 25356 values are safe"):
        signed(rules, envelope, roster)


def test_policy_signed_by_fewer_than_k() -> None:
    of, rules = three(), policy(PROFILE)
    roster = Roster.first(of.bundle)
    once = countersign(rules, roster, of.members[2], None)
    twice = Envelope(once.payload_type, once.payload, once.signatures * 2)
    other = policy_signatures(policy(PROFILE, top_k=9), of)
    moved = Envelope(once.payload_type, once.payload, once.signatures + other.signatures)
    stranger = Identity.generate().sign(once.payload_type, once.payload)
    forged = Envelope(once.payload_type, once.payload, once.signatures + stranger.signatures)
    for envelope in (once, twice, moved, forged):
        with pytest.raises(PermissionRefused, match="signed by 1 of the auditors, not by 2"):
            signed(rules, envelope, roster)
    assert signed(rules, countersign(rules, roster, of.members[0], once), roster)


def test_stranger_cannot_sign() -> None:
    with pytest.raises(PermissionRefused, match="no part in the ceremony"):
        countersign(policy(PROFILE), Roster.first(three().bundle), Identity.generate(), None)


def test_policy_of_another_epoch() -> None:
    """The same people, the same policy, but signed for their former keys."""
    of, rules = three(), policy(PROFILE)
    roster = Roster.first(of.bundle)
    former = replace(roster, epoch="0" * 64)
    envelope = countersign(rules, former, of.members[0], None)
    envelope = countersign(rules, former, of.members[1], envelope)
    assert signed(rules, envelope, former)
    with pytest.raises(PermissionRefused, match="another policy or key epoch"):
        signed(rules, envelope, roster)


def test_older_policy_does_not_come_back(tmp_path: Path) -> None:
    """Signed by all it takes, but long replaced. The database remembers, over restarts."""
    of = three()
    old, new = policy(PROFILE), policy(PROFILE, serial=2, top_k=9)
    database = Database(tmp_path / "guardian.sqlite")
    book = Rulebook(PolicyMemory(database), approved(old, of))
    book.adopt(approved(new, of))
    with pytest.raises(Mismatch, match="serial 2 was in force"):
        book.adopt(approved(old, of))
    assert book.policy == new
    database.close()
    again = Database(tmp_path / "guardian.sqlite")
    with pytest.raises(Mismatch, match="serial 2 was in force"):
        Rulebook(PolicyMemory(again), approved(old, of))
    with pytest.raises(Conflict, match="another policy with serial 2"):
        Rulebook(PolicyMemory(again), approved(policy(PROFILE, serial=2, top_k=8), of))
    assert Rulebook(PolicyMemory(again), approved(new, of)).policy == new
    again.close()


def policies(office: Desk) -> list[PolicyInForce]:
    book = office.logbook
    found = [open_entry(e) for _, e in book.log.reader.entries(book.log.size)]
    return [entry for entry in found if isinstance(entry, PolicyInForce)]


def test_changed_policy_holds_at_once_and_is_logged(tmp_path: Path) -> None:
    of = world(PROFILE)
    frozen = f"{policy_text(PROFILE, serial=2)}[freeze]\nclients = ['agency']\n"
    with desk(tmp_path, of, policy(PROFILE)) as office:
        assert office.submit(of.ask(unit(1, 5)[0])).matches == ()
        waiting = of.ask(unit(1, 5)[0])
        admitted = office.registrar.admit(AGENCY, *waiting.envelopes)
        assert isinstance(admitted, Admission)
        (tmp_path / "new.toml").write_text(frozen)
        changed = approved(load_policy(tmp_path / "new.toml"), of)
        office.registrar.adopt(changed)
        with pytest.raises(Busy, match="policy has just changed"):
            office.registrar.answer(fill(admitted, waiting))
        with pytest.raises(PermissionRefused, match="frozen this client"):
            office.submit(waiting)
        logged = policies(office)
    assert [entry.serial for entry in logged] == [1, 2]
    payload = logged[1].approval().payload()
    signers = approving(Roster.first(of.bundle), payload, logged[1].member_signatures())
    assert signers == {of.members[0].public_key}


def test_signature_file_that_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(policy_text(PROFILE))
    signatures_path(path).write_text("signed, honestly")
    with pytest.raises(InvalidInput, match="not a file of signatures"):
        load_signed(path, Roster.first(three().bundle))
