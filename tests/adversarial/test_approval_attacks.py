"""Requests that need persons: approvals by the wrong one, of another request, or none at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.auditor_guardians import panel_of
from tests.auditor_world import (
    AGENCY,
    CLIENT,
    NOW,
    OTHER,
    Answer,
    Desk,
    World,
    book_of,
    desk,
    policy_text,
    unit,
    world,
)
from underseal_auditor.panel import Panel
from underseal_auditor.policy.document import Policy, parse_policy
from underseal_auditor.store.database import Database
from underseal_auditor.store.pending import MAX_PENDING_OF_CLIENT, PendingStore
from underseal_auditor.store.submission import Submission
from underseal_auditor.verify.chain import Place
from underseal_core.credentials import Peer, Role
from underseal_core.errors import Busy, InvalidInput, NotFound, PermissionRefused, Waiting
from underseal_core.log_entries import Intent, open_entry_as
from underseal_core.oversight import Approval
from underseal_core.scheme.ciphertext import Kind
from underseal_core.signing import Envelope, Identity
from underseal_core.statements import utc_text

PROFILE = "swift"
PEOPLE = {"alice": Identity.generate(), "bob": Identity.generate()}
ALICE, BOB = (Peer(Role.APPROVER, name, who.public_key) for name, who in PEOPLE.items())


def needing(approvals: str) -> Policy:
    text = policy_text(PROFILE).replace(
        'galleries = ["missing"]\napprovals = "none"',
        f'galleries = ["missing"]\napprovals = "{approvals}"',
    )
    text += "".join(f"[approvers.{n}]\nkey = '{w.public_key.hex()}'\n" for n, w in PEOPLE.items())
    return parse_policy(text.encode())


def approval(answer: Answer, name: str, **changes: object) -> Approval:
    fields: dict[str, object] = {
        "request_sha256": answer.request.sha256(),
        "result_sha256": answer.result.sha256(),
        "approver": name,
        "decision": "approve",
        "reason": "checked",
        "at": utc_text(NOW),
        "expires_at": utc_text(NOW + timedelta(hours=1)),
    }
    return Approval.model_validate({**fields, **changes})


def by(name: str, answer: Answer, **changes: object) -> Envelope:
    return approval(answer, name, **changes).sign(PEOPLE[name])


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, world(PROFILE), needing("two")) as opened:
        yield opened


def asked(of: World | None = None) -> Answer:
    return (of or world(PROFILE)).ask(unit(1, 5)[0])


def waits(office: Desk, answer: Answer) -> str:
    with pytest.raises(Waiting) as waiting:
        office.submit(answer)
    assert answer.request.request_id in waiting.value.hint
    return waiting.value.public


def later(office: Desk, answer: Answer) -> tuple[str, ...]:
    """Ask for the release, and return who approved, as the intent in the log has it."""
    delivery = office.registrar.release(AGENCY, answer.request.request_id)
    return open_entry_as(Intent, delivery.evidence.intent.entry).approvers


def test_two_persons_open_a_request_and_the_log_names_them(office: Desk) -> None:
    answer, room = asked(), office.registrar.waiting
    assert "2 persons" in waits(office, answer)
    before = office.logbook.log.size
    room.decide(BOB, by("bob", answer))
    assert "1 person" in waits(office, answer)
    (case,) = room.cases(ALICE)
    assert (case.needed, case.approving, case.refusing) == (2, ("bob",), ())
    assert office.logbook.log.size == before  # nothing was announced
    room.decide(ALICE, by("alice", answer))
    assert later(office, answer) == ("alice", "bob")
    release = office.submit(answer)
    assert release.approvers == ("alice", "bob")
    assert room.cases(ALICE) == []


def test_client_cannot_approve_its_own_request(office: Desk) -> None:
    answer, room = asked(), office.registrar.waiting
    waits(office, answer)
    own = approval(answer, "alice").sign(CLIENT)
    for peer in (AGENCY, Peer(Role.APPROVER, "alice", CLIENT.public_key)):
        with pytest.raises(PermissionRefused, match="no approver with this name and key"):
            room.decide(peer, own)
    with pytest.raises(PermissionRefused, match="not signed"):
        room.decide(ALICE, own)
    assert "2 persons" in waits(office, answer)


def test_same_person_twice_is_one_person(office: Desk) -> None:
    answer, room = asked(), office.registrar.waiting
    waits(office, answer)
    room.decide(ALICE, by("alice", answer))
    room.decide(ALICE, by("alice", answer, reason="again"))
    with pytest.raises(PermissionRefused, match="another person's"):
        room.decide(BOB, by("alice", answer))
    assert "1 person" in waits(office, answer)


def test_approval_of_another_request_does_not_count(office: Desk) -> None:
    answer, other, room = asked(), asked(), office.registrar.waiting
    waits(office, answer)
    with pytest.raises(NotFound, match="no such request waits"):
        room.decide(ALICE, by("alice", other))
    waits(office, other)
    for name, peer in (("alice", ALICE), ("bob", BOB)):
        room.decide(peer, by(name, other))
    assert later(office, other) == ("alice", "bob")
    assert "2 persons" in waits(office, answer)


def test_approval_that_has_expired_does_not_count(office: Desk) -> None:
    answer, room = asked(), office.registrar.waiting
    waits(office, answer)
    room.decide(ALICE, by("alice", answer, expires_at=utc_text(NOW - timedelta(seconds=1))))
    room.decide(BOB, by("bob", answer, at=utc_text(NOW + timedelta(hours=1))))
    assert "2 persons" in waits(office, answer)


def test_one_refusal_is_enough(office: Desk) -> None:
    answer, room = asked(), office.registrar.waiting
    waits(office, answer)
    room.decide(ALICE, by("alice", answer, decision="refuse"))
    room.decide(BOB, by("bob", answer))
    for attempt in (
        lambda: office.submit(answer),
        lambda: office.registrar.release(AGENCY, answer.request.request_id),
    ):
        with pytest.raises(PermissionRefused, match="a person refused"):
            attempt()


def test_waiting_requests_survive_a_restart_and_expire(tmp_path: Path) -> None:
    of, rules = world(PROFILE), needing("one")
    answer = asked(of)
    with desk(tmp_path, of, rules) as office:
        waits(office, answer)
        office.registrar.waiting.decide(ALICE, by("alice", answer))
        with pytest.raises(NotFound):
            office.registrar.release(OTHER, answer.request.request_id)
    with desk(tmp_path, of, rules) as office:
        assert later(office, answer) == ("alice",)
        held = asked(of)
        waits(office, held)
    with desk(tmp_path, of, rules, now=NOW + timedelta(hours=25)) as office:
        assert office.registrar.waiting.cases(ALICE) == []
        with pytest.raises(NotFound):
            office.registrar.release(AGENCY, held.request.request_id)
        with pytest.raises(InvalidInput, match="expired"):
            office.submit(held)


def test_client_cannot_fill_the_waiting_room(tmp_path: Path) -> None:
    answer = asked()
    database = Database(tmp_path / "registrar.sqlite")
    store = PendingStore(database)
    hour = timedelta(hours=1)

    def put(number: int, client: str = "agency", now: datetime = NOW) -> None:
        hashes = answer.request.sha256(), answer.result.sha256()
        submission = Submission(client, f"{number:032x}", *hashes, "0" * 64)
        sealed = {Place(Kind.NORM, 0): b"norm"}
        store.put(submission, answer.envelopes, sealed, now, now + hour)

    for number in range(MAX_PENDING_OF_CLIENT):
        put(number)
    put(0)  # again
    with pytest.raises(Busy, match="too many requests wait"):
        put(MAX_PENDING_OF_CLIENT)
    put(0, client="bureau")
    put(MAX_PENDING_OF_CLIENT, now=NOW + 2 * hour)  # the others have expired
    assert len(store.all(NOW + 2 * hour)) == 1
    database.close()


@contextmanager
def guarded(folder: Path, rules: Policy) -> Iterator[tuple[Desk, Panel, World]]:
    of = world(PROFILE, 2, 3)
    with (
        book_of(folder) as book,
        panel_of(folder, of, rules, book) as (panel, _),
        desk(folder, of, rules, guardian=panel, logbook=book) as office,
    ):
        yield office, panel, of


def test_registrar_that_asks_nobody_is_stopped_by_the_guardians(tmp_path: Path) -> None:
    """It logs an intent that names two persons; each guardian looks for their signatures."""
    with guarded(tmp_path, needing("two")) as (office, panel, of):
        answer, other = asked(of), asked(of)
        forged = approval(answer, "bob").sign(Identity.generate())
        cases: list[tuple[Envelope, ...]] = [
            (),
            (by("alice", answer),),
            (by("alice", answer), by("alice", answer, reason="again")),
            (by("alice", answer), by("bob", other)),
            (by("alice", answer), forged),
            (by("alice", answer), by("bob", answer, decision="refuse")),
        ]
        for approvals in cases:
            shown = office.dossier(answer, approvals=approvals, approvers=("alice", "bob"))
            with pytest.raises(Waiting, match="approval"):
                panel.begin(shown)
        both = (by("alice", answer), by("bob", answer))
        panel.begin(office.dossier(answer, approvals=both, approvers=("alice", "bob")))


def test_release_after_approval_by_guardians(tmp_path: Path) -> None:
    with guarded(tmp_path, needing("one")) as (office, _, of):
        answer = asked(of)
        waits(office, answer)
        office.registrar.waiting.decide(BOB, by("bob", answer))
        assert later(office, answer) == ("bob",)
        assert office.submit(answer).approvers == ("bob",)
