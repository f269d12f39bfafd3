"""Warrants: none given, none filed, somebody else's, and a registrar that looks away."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.auditor_guardians import panel_of
from tests.auditor_world import (
    AGENCY,
    AUDITOR,
    CLIENT,
    NOW,
    OTHER,
    OTHER_CLIENT,
    Answer,
    Desk,
    World,
    book_of,
    desk,
    policy_text,
    unit,
    world,
)
from underseal_auditor.logs.audit import EntryAudit
from underseal_auditor.policy.document import Policy, parse_policy
from underseal_core.errors import Conflict, InvalidInput, NotFound, PermissionRefused
from underseal_core.log_entries import Intent, Revocation, WarrantFiled, open_entry
from underseal_core.log_evidence import check_evidence, check_filed
from underseal_core.oversight import Warrant
from underseal_core.roster import Roster
from underseal_core.signing import Envelope, Identity
from underseal_core.statements import Release, utc_text
from underseal_core.tlog.audit import verify_log

PROFILE = "swift"
HOURS = 48
LATER = NOW + timedelta(hours=HOURS, seconds=1)


def asking(warrant: str, serial: int = 1, extra: str = "") -> Policy:
    text = policy_text(PROFILE, serial=serial).replace(
        'galleries = ["missing"]\n', f'galleries = ["missing"]\nwarrant = "{warrant}"\n'
    )
    return parse_policy(text.replace("[release]", f"{extra}\n[release]", 1).encode())


def asked(of: World, now: datetime = NOW, warrant: str = "") -> Answer:
    return of.ask(
        unit(1, 5)[0],
        warrant=warrant,
        issued_at=utc_text(now),
        expires_at=utc_text(now + timedelta(minutes=10)),
    )


def warrant_for(answer: Answer, **changes: object) -> Warrant:
    fields: dict[str, object] = {
        "request_id": answer.request.request_id,
        "request_sha256": answer.request.sha256(),
        "client": "agency",
        "reference": "court 12/26",
        "salt": "5" * 32,
        "at": utc_text(NOW),
    }
    return Warrant.model_validate({**fields, **changes})


def kinds(office: Desk) -> list[str]:
    book = office.logbook
    return [type(open_entry(e)).__name__ for _, e in book.log.reader.entries(book.log.size)]


def findings(office: Desk, of: World) -> tuple[set[str], EntryAudit]:
    audit = EntryAudit((Roster.first(of.bundle),))
    book = office.logbook
    verify_log(book.log.reader.directory, book.key, visit=audit.visit)
    return {finding.rule for finding in audit.findings}, audit


def test_search_without_the_warrant_that_is_needed_before(tmp_path: Path) -> None:
    of = world(PROFILE)
    with desk(tmp_path, of, asking("before")) as office:
        with pytest.raises(PermissionRefused, match="needs a warrant"):
            office.submit(asked(of))
        assert office.submit(asked(of, warrant="court 12/26")).warrant_deadline == ""


def test_warrant_in_time_keeps_the_release_and_the_log_has_its_hash_only(tmp_path: Path) -> None:
    of = world(PROFILE)
    answer = asked(of)
    with desk(tmp_path, of, asking("within")) as office:
        assert office.submit(asked(of, warrant="court 1")).warrant_deadline == ""
        release = office.submit(answer)
        assert release.warrant_deadline == utc_text(NOW + timedelta(hours=HOURS))
        warrant = warrant_for(answer)
        filed = office.registrar.warrants.file(AGENCY, warrant.sign(CLIENT))
        members = [AUDITOR.public_key]
        assert check_filed(filed.logged, office.logbook.key, members, warrant)
        assert not filed.late
        assert b"court" not in filed.logged.entry
        with pytest.raises(Conflict, match="already"):
            office.registrar.warrants.file(AGENCY, warrant_for(answer, salt="6" * 32).sign(CLIENT))
    with desk(tmp_path, of, asking("within"), now=LATER) as office:
        delivery = office.registrar.release(AGENCY, answer.request.request_id)
        assert delivery.evidence.revocation is None
        assert office.submit(asked(of, LATER)).matches == ()
        assert "Revocation" not in kinds(office)
        assert findings(office, of)[0] == set()


def test_release_without_a_warrant_is_revoked_and_the_purpose_suspended(tmp_path: Path) -> None:
    """Nobody has to ask: it happens when the registrar starts, and once."""
    of = world(PROFILE)
    answer = asked(of)
    with desk(tmp_path, of, asking("within")) as office:
        release = office.submit(answer)
    for _ in range(2):
        with desk(tmp_path, of, asking("within"), now=LATER) as office:
            assert kinds(office).count("Revocation") == 1
    with desk(tmp_path, of, asking("within"), now=LATER) as office:
        delivery = office.registrar.release(AGENCY, answer.request.request_id)
        key, members = office.logbook.key, [AUDITOR.public_key]
        proof = check_evidence(delivery.evidence, delivery.release, key, members)
        assert proof.revocation is not None
        assert proof.revocation.release_sha256 == release.sha256()
        with pytest.raises(PermissionRefused, match="overdue") as refused:
            office.submit(asked(of, LATER))
        assert f"underseal warrant {answer.request.request_id}" in refused.value.hint
        filed = office.registrar.warrants.file(AGENCY, warrant_for(answer).sign(CLIENT))
        assert filed.late
        assert office.submit(asked(of, LATER)).matches == ()
        again = office.registrar.release(AGENCY, answer.request.request_id)
        assert again.evidence.revocation is not None
        broken, audit = findings(office, of)
        assert broken == set()
        assert [(row.provisional, row.revoked) for row in audit.rows()] == [(2, 1)]


def test_auditors_lift_a_suspension_by_policy(tmp_path: Path) -> None:
    of = world(PROFILE)
    answer = asked(of)
    with desk(tmp_path, of, asking("within")) as office:
        office.submit(answer)
    lifted = asking("within", 2, f'lifted = ["{answer.request.request_id}"]')
    with desk(tmp_path, of, lifted, now=LATER) as office:
        assert office.submit(asked(of, LATER)).matches == ()
        assert findings(office, of)[0] == set()


def test_warrant_of_somebody_else_or_for_another_request(tmp_path: Path) -> None:
    of = world(PROFILE)
    answer, other = asked(of), asked(of)
    with desk(tmp_path, of, asking("within")) as office:
        office.submit(answer)
        file = office.registrar.warrants.file
        good = warrant_for(answer)
        with pytest.raises(PermissionRefused, match="not signed"):
            file(AGENCY, good.sign(Identity.generate()))
        with pytest.raises(NotFound):
            file(OTHER, warrant_for(answer, client="bureau").sign(OTHER_CLIENT))
        with pytest.raises(NotFound):
            file(AGENCY, warrant_for(other).sign(CLIENT))
        moved = warrant_for(answer, request_sha256=other.request.sha256())
        with pytest.raises(InvalidInput, match="another request"):
            file(AGENCY, moved.sign(CLIENT))
        with pytest.raises(InvalidInput, match="not a warrant"):
            file(AGENCY, other.request.sign(CLIENT))
        assert "WarrantFiled" not in kinds(office)


def test_registrar_that_looks_away_is_seen_in_the_log(tmp_path: Path) -> None:
    """It neither revokes nor suspends, or revokes what is not overdue: anyone can tell."""
    of = world(PROFILE)
    answer = asked(of)
    with desk(tmp_path, of, asking("within")) as office:
        office.submit(answer)
        book = office.logbook
        entries = [open_entry(e) for _, e in book.log.reader.entries(book.log.size)]
        (intent,) = [entry for entry in entries if isinstance(entry, Intent)]
        release = Release.parse(office.registrar.release(AGENCY, intent.request_id).release.payload)
        early = Revocation(
            request_id=intent.request_id,
            request_sha256=intent.request_sha256,
            client="agency",
            purpose=intent.purpose,
            release_sha256=release.sha256(),
            warrant_deadline=release.warrant_deadline,
            at=utc_text(NOW),
        )
        book.append(book.signed(early))
        assert findings(office, of)[0] == {"revoked"}
        next_one = intent.model_copy(
            update={"request_id": "7" * 32, "request_sha256": "8" * 64, "at": utc_text(LATER)}
        )
        book.append(book.signed(next_one))
        assert findings(office, of)[0] == {"revoked", "warrant"}
        wrong = WarrantFiled(
            request_id=intent.request_id,
            request_sha256="0" * 64,
            client="agency",
            purpose=intent.purpose,
            warrant_sha256="0" * 64,
            at=utc_text(LATER),
        )
        book.append(book.signed(wrong))
        assert findings(office, of)[0] == {"revoked", "warrant", "intent"}


def test_guardians_do_not_countersign_a_release_without_its_deadline(tmp_path: Path) -> None:
    of, rules = world(PROFILE, 2, 3), asking("within")
    with (
        book_of(tmp_path) as book,
        panel_of(tmp_path, of, rules, book) as (panel, _),
        desk(tmp_path, of, rules, guardian=panel, logbook=book) as office,
    ):
        answer = asked(of)
        shown = office.dossier(answer)
        opening = panel.begin(shown)
        opening.open(shown.sealed.norm, 0.1)
        honest = Release(
            request_id=answer.request.request_id,
            request_sha256=answer.request.sha256(),
            result_sha256=answer.result.sha256(),
            policy_sha256=rules.sha256,
            key_epoch=of.bundle.epoch,
            client="agency",
            purpose="missing-person",
            case_reference="case 7",
            matches=(),
            compared=answer.result.compared,
            threshold="0.6",
            noise_std="0.1",
            warrant_deadline=utc_text(NOW + timedelta(hours=HOURS)),
            values_charged=0,
            epoch_total=0,
            released_at=utc_text(NOW),
        )
        later = utc_text(NOW + timedelta(hours=2 * HOURS))
        for changes in (
            {"warrant_deadline": ""},
            {"warrant_deadline": later},
            {"warrant_deadline": later, "released_at": utc_text(NOW + timedelta(hours=HOURS))},
        ):
            lie: Envelope = honest.model_copy(update=changes).sign(AUDITOR)
            with pytest.raises(PermissionRefused, match="countersign"):
                opening.countersign(lie)
        assert len(opening.countersign(honest.sign(AUDITOR)).signatures) == 2


def test_warrant_that_a_crash_kept_out_of_the_log_is_logged_at_the_next_start(
    tmp_path: Path,
) -> None:
    of = world(PROFILE)
    answer = asked(of)
    with desk(tmp_path, of, asking("within")) as office:
        office.submit(answer)
        office.registrar.warrants.file(AGENCY, warrant_for(answer).sign(CLIENT))
        with office.database.transaction() as connection:
            connection.execute("UPDATE answers SET filed_receipt = x''")
        before = kinds(office)
    with desk(tmp_path, of, asking("within")) as office:
        assert kinds(office) == before  # it was in the log already
        store = office.registrar.warrants
        store.sweep()
        assert kinds(office) == before
