"""No log entry, no decryption: registrars that try to have guardians open without one.

The registrar here is hostile and holds the log's key and its auditor's identity. The guardians are
the product's own, 2 of 3.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.auditor_guardians import Link, Releases, panel_of
from tests.auditor_world import (
    AUDITOR,
    NOW,
    OTHER_CLIENT,
    Answer,
    Desk,
    book_of,
    desk,
    policy,
    unit,
    world,
)
from underseal_auditor.guardian import Dossier, UnfitGuardian
from underseal_auditor.logbook import Logbook, open_logbook
from underseal_auditor.panel import Panel
from underseal_core.errors import (
    Busy,
    Damaged,
    Mismatch,
    PermissionRefused,
    StorageFull,
    UndersealError,
)
from underseal_core.log_entries import Intent, Logged, Outcome, open_entry
from underseal_core.signing import Identity
from underseal_core.statements import utc_text
from underseal_core.tlog.log import TransparencyLog
from underseal_core.tlog.note import NoteSigner

PROFILE = "swift"
OF = (PROFILE, 2, 3)
GROUP = (1, 2)


@dataclass
class Bench:
    desk: Desk
    panel: Panel
    links: list[Link]
    book: Logbook

    def dossier(self) -> Dossier:
        return self.desk.dossier(missing())

    def untouched(self) -> bool:
        """No guardian took part in anything, or remembers anything of the log."""
        return all(
            link.total == 0 and link.desk.log_size == 0 and "reveal" not in link.calls
            for link in self.links
        )


@contextmanager
def bench_of(folder: Path) -> Iterator[Bench]:
    of, rules = world(*OF), policy(PROFILE)
    with (
        book_of(folder) as book,
        panel_of(folder, of, rules, book) as (panel, links),
        desk(folder, of, rules, guardian=panel, logbook=book) as office,
    ):
        yield Bench(office, panel, links, book)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_of(tmp_path) as made:
        yield made


def missing() -> Answer:
    return world(*OF).ask(unit(1, 5)[0])


# --- skipping the log ----------------------------------------------------------------------

Forge = Callable[[Bench, Dossier, Path], Logged]


def nothing(bench: Bench, honest: Dossier, folder: Path) -> Logged:
    return Logged(b"", b"")


def entry_that_was_never_logged(bench: Bench, honest: Dossier, folder: Path) -> Logged:
    """Signed, with the receipt of another entry."""
    other = bench.desk.dossier(missing()).intent
    return Logged(honest.intent.entry, other.receipt)


def intent_of_another_request(bench: Bench, honest: Dossier, folder: Path) -> Logged:
    return bench.desk.dossier(missing()).intent


def intent_of_another_result(bench: Bench, honest: Dossier, folder: Path) -> Logged:
    return bench.desk.dossier(missing(), result_sha256="0" * 64).intent


def logged_in_private(bench: Bench, honest: Dossier, folder: Path) -> Logged:
    """In a log of the same name that nobody watches."""
    signer = NoteSigner(bench.book.key.name, Identity.generate())
    with TransparencyLog.create(folder / "private", signer) as log:
        return Logbook(log, AUDITOR).append(honest.intent.entry).logged


def signed_by_a_stranger(bench: Bench, honest: Dossier, folder: Path) -> Logged:
    stranger = Logbook(bench.book.log, OTHER_CLIENT)
    return stranger.append(stranger.signed(open_entry(honest.intent.entry))).logged


def an_outcome(bench: Bench, honest: Dossier, folder: Path) -> Logged:
    """The right hashes in an entry of another kind."""
    intent = open_entry(honest.intent.entry)
    assert isinstance(intent, Intent)
    outcome = Outcome(
        intent_sha256=intent.sha256(), request_id=intent.request_id,
        request_sha256=intent.request_sha256, client=intent.client, purpose=intent.purpose,
        outcome="refused", release_sha256="", matches=0, compared=0, values_charged=0,
        epoch_total=0, policy_sha256=intent.policy_sha256, key_epoch=intent.key_epoch, at=intent.at,
    )  # fmt: skip
    return bench.book.append(bench.book.signed(outcome)).logged


FORGERIES: list[Forge] = [
    nothing,
    entry_that_was_never_logged,
    intent_of_another_request,
    intent_of_another_result,
    logged_in_private,
    signed_by_a_stranger,
    an_outcome,
]


@pytest.mark.parametrize("forge", FORGERIES)
def test_registrar_that_skips_the_log_opens_nothing(
    bench: Bench, forge: Forge, tmp_path: Path
) -> None:
    honest = bench.dossier()
    forged = replace(honest, intent=forge(bench, honest, tmp_path))
    for point in GROUP:
        with pytest.raises((Damaged, PermissionRefused)):
            bench.links[point - 1].commit(forged, GROUP, ())
    assert bench.untouched()
    bench.panel.begin(honest)


@pytest.mark.parametrize(
    "lie",
    [
        {"purpose": "border"},
        {"client": "bureau"},
        {"gallery": "wanted"},
        {"server": "elsewhere"},
        {"templates": 1},
        {"ciphertexts": 4},
        {"snapshot_version": 1},
        {"snapshot_root": "0" * 64},
        {"policy_sha256": "0" * 64},
        {"key_epoch": "0" * 64},
        {"request_id": "0" * 32},
        {"at": utc_text(NOW + timedelta(hours=1))},
    ],
    ids=lambda lie: next(iter(lie)),
)
def test_intent_that_says_something_else_than_the_submission(
    bench: Bench, lie: dict[str, Any]
) -> None:
    lying = bench.desk.dossier(missing(), **lie)
    with pytest.raises(Damaged, match="the logged intent"):
        bench.panel.begin(lying)
    assert bench.untouched()


# --- another log than before ---------------------------------------------------------------


def forked(bench: Bench, folder: Path, backup: Path) -> Logbook:
    """A second history under the same key, from an older copy of the log."""
    shutil.copytree(backup, folder / "fork")
    return open_logbook(folder / "fork", AUDITOR)


@pytest.mark.parametrize("more", [0, 1, 4], ids=["shorter", "as long", "longer"])
def test_registrar_that_shows_a_guardian_a_rolled_back_or_forked_log(
    bench: Bench, tmp_path: Path, more: int
) -> None:
    shutil.copytree(tmp_path / "log", tmp_path / "backup")
    for _ in range(2):
        bench.panel.begin(bench.dossier())
    seen = bench.links[0].desk.log_size
    other = forked(bench, tmp_path, tmp_path / "backup")
    for _ in range(more):
        other.append(other.signed(open_entry(bench.dossier().intent.entry)))
    honest = bench.dossier()
    shown = replace(honest, intent=other.append(honest.intent.entry).logged)
    size = other.log.size
    assert (size < seen, size == seen, size > seen) == (more == 0, more == 1, more == 4)
    proofs = [(), honest_proof(other, seen)]
    for extends in proofs:
        with pytest.raises(Damaged, match="the log that is shown is another one"):
            bench.links[0].commit(shown, GROUP, extends)
    assert bench.links[0].desk.log_size == seen
    other.close()
    bench.panel.begin(bench.dossier())


def honest_proof(book: Logbook, old: int) -> tuple[bytes, ...]:
    return book.log.reader.prove_consistency(min(old, book.log.size), book.log.size)


def test_guardian_remembers_the_log_over_a_restart(bench: Bench, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "log", tmp_path / "backup")
    bench.panel.begin(bench.dossier())
    seen = bench.links[0].desk.log_size
    for link in bench.links:
        link.stop()
        link.start()
    other = forked(bench, tmp_path, tmp_path / "backup")
    honest = bench.dossier()
    shown = replace(honest, intent=other.append(honest.intent.entry).logged)
    with pytest.raises(Damaged, match="another one"):
        bench.links[0].commit(shown, GROUP, ())
    other.close()
    assert bench.links[0].desk.log_size == seen
    bench.links[0].stop()
    bench.links[0].log_key = NoteSigner("log.example/tests", Identity.generate()).key
    with pytest.raises(Mismatch, match="has seen another log"):
        bench.links[0].start()


def test_registrar_whose_log_became_shorter_is_told_so(bench: Bench, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "log", tmp_path / "backup")
    for _ in range(2):
        bench.panel.begin(bench.dossier())
    other = forked(bench, tmp_path, tmp_path / "backup")
    honest = bench.dossier()
    shown = replace(honest, intent=other.append(honest.intent.entry).logged)
    panel = Panel(
        world(*OF).bundle,
        world(*OF).roster,
        lambda: bench.desk.rules.sha256,
        {link.point: link for link in bench.links},
        other.extends,
        Releases(),
    )
    with pytest.raises(UnfitGuardian, match="seen more of the log"):
        panel.begin(shown)
    panel.close()
    other.close()


# --- what an honest registrar makes of a guardian's answer ---------------------------------


def kinds(bench: Bench) -> list[str]:
    log = bench.book.log
    return [type(open_entry(entry)).__name__ for _, entry in log.reader.entries(log.size)][1:]


@pytest.mark.parametrize("step", ["commit", "reveal", "take"])
def test_submission_that_a_guardian_missed_keeps_its_intent(bench: Bench, step: str) -> None:
    answer = missing()
    bench.links[0].dies_before = step
    with pytest.raises(Busy):
        bench.desk.envelope(answer)
    assert kinds(bench) == ["Intent"]
    bench.links[0].start()
    other = missing()
    bench.desk.envelope(other)  # the log grows in between
    assert bench.desk.submit(answer).matches == ()
    assert kinds(bench) == ["Intent", "Intent", "Outcome", "Outcome"]


def test_nothing_is_announced_while_too_few_guardians_are_there(bench: Bench) -> None:
    answer = missing()
    for link in bench.links[1:]:
        link.down = True
    with pytest.raises(Busy, match="too few guardians"):
        bench.desk.envelope(answer)
    assert kinds(bench) == []


def test_intent_survives_a_crash_of_the_registrar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry is in the log, and the registrar ends before it has stored the receipt."""
    answer = missing()

    def crash(*arguments: object) -> None:
        raise StorageFull("power cut")

    with bench_of(tmp_path) as bench:
        monkeypatch.setattr(bench.desk.ledger, "announced", crash)
        with pytest.raises(StorageFull):
            bench.desk.envelope(answer)
        assert kinds(bench) == ["Intent"]
        assert bench.untouched()
    with bench_of(tmp_path) as bench:
        assert bench.desk.submit(answer).matches == ()
        assert kinds(bench) == ["Intent", "Outcome"]


def test_what_a_guardian_refuses_is_logged_as_refused(bench: Bench) -> None:
    answer = missing()
    bench.links[1].now = NOW + timedelta(hours=3)
    with pytest.raises(UndersealError, match="expired"):
        bench.desk.envelope(answer)
    assert kinds(bench) == ["Intent", "Outcome"]
    log = bench.book.log
    *_, (_, entry) = log.reader.entries(log.size)
    outcome = open_entry(entry)
    assert isinstance(outcome, Outcome)
    assert (outcome.outcome, outcome.values_charged) == ("refused", 0)
    epoch = world(*OF).bundle.epoch
    assert bench.desk.ledger.refusals("agency", epoch) == 0  # it is not the client's fault
    bench.links[1].now = NOW
    with pytest.raises(PermissionRefused, match="the auditors refuse"):
        bench.desk.envelope(answer)
