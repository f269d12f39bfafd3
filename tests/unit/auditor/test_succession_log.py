"""Successions in the log: each once, in order; a wrong one is found by whoever verifies it."""

from __future__ import annotations

from pathlib import Path

from tests.auditor_world import book_of
from tests.oracles.resharings import refreshed, reshare
from underseal_auditor.logbook import Logbook
from underseal_auditor.logs.audit import EntryAudit
from underseal_core.log_entries import Succession, encode_entry, open_entry
from underseal_core.roster import follow
from underseal_core.signing import Envelope


def entries_of(book: Logbook) -> list[bytes]:
    return [entry for _, entry in book.log.reader.entries(book.log.size)]


def audited(entries: list[bytes]) -> list[str]:
    before, _ = refreshed(2, 3)
    rosters = tuple(follow(before.bundle, ()))
    audit = EntryAudit(rosters)
    for index, entry in enumerate(entries):
        audit.visit(index, entry)
    return [finding.rule for finding in audit.findings]


def test_successions_are_logged_once_and_in_order(tmp_path: Path) -> None:
    _, first = refreshed(2, 3)
    second = reshare(first, first.identities)
    entries = [encode_entry(envelope) for envelope in second.successions]
    with book_of(tmp_path) as book:
        book.put_successions(())
        book.put_successions(entries[:1])
        book.put_successions(entries[:1])
        book.put_successions(entries)
        assert entries_of(book) == entries
        assert audited(entries) == []
    for wrong in (entries[::-1], [entries[0], entries[0]]):
        assert audited(wrong) == ["succession"]
    assert audited(entries[1:]) == []


def test_succession_that_a_member_did_not_sign_is_found() -> None:
    _, after = refreshed(2, 3)
    whole = after.successions[0]
    part = Envelope(whole.payload_type, whole.payload, whole.signatures[:2])
    assert isinstance(open_entry(encode_entry(part)), Succession)
    assert audited([encode_entry(part)]) == ["succession"]
