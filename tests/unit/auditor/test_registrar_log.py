"""No log entry, no decryption, no release: the registrar and its transparency log."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.auditor_attacks import UNIFORM, Watching, plain, too_long_probe
from tests.auditor_world import (
    AGENCY,
    AUDITOR,
    CLIENT,
    Desk,
    Vectors,
    at_cosine,
    desk,
    policy,
    world,
)
from underseal_auditor.logbook import (
    KEY_NAME,
    TILES_NAME,
    VKEY_NAME,
    create_logbook,
    open_logbook,
)
from underseal_auditor.store.ledger import Ledger
from underseal_core.errors import (
    Conflict,
    Damaged,
    InvalidInput,
    NotFound,
    PermissionRefused,
    StorageFull,
    UndersealError,
)
from underseal_core.log_entries import (
    Intent,
    LogStatement,
    Outcome,
    PolicyInForce,
    open_entry,
)
from underseal_core.log_evidence import check_evidence
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.signing import Identity
from underseal_core.tlog import journal


def statements(office: Desk) -> list[LogStatement]:
    log = office.logbook.log
    members = frozenset({AUDITOR.public_key})
    return [open_entry(entry, members) for _, entry in log.reader.entries(log.size)]


def test_release_comes_with_receipts_of_intent_and_outcome(tmp_path: Path) -> None:
    of = world()
    answer = of.ask(at_cosine(of.people[3], 0.8))
    with desk(tmp_path, of, policy()) as office:
        delivery = office.delivery(answer)
        _, intent, outcome = statements(office)
        key = office.logbook.key
    proof = check_evidence(delivery.evidence, delivery.release, key, [AUDITOR.public_key])
    assert (proof.intent_index, proof.outcome_index) == (1, 2)
    assert isinstance(intent, Intent)
    assert isinstance(outcome, Outcome)
    assert intent.request_sha256 == answer.request.sha256()
    assert intent.result_sha256 == answer.result.sha256()
    assert intent.snapshot_root == answer.result.snapshot.root
    assert intent.ciphertexts == len(answer.sealed) - 1  # all but the probe
    assert (outcome.matches, outcome.values_charged, outcome.epoch_total) == (1, 1, 1)


def test_intent_is_durable_before_anything_is_opened(tmp_path: Path) -> None:
    of = world()
    seen: list[int] = []

    class Looking(Watching):
        def open(self, ciphertext: Ciphertext, noise_std: float) -> Vectors:
            # what a reader of the files would see at this moment
            raw = (tmp_path / "log" / TILES_NAME / "checkpoint").read_bytes()
            seen.append(int(raw.split(b"\n")[1]))
            return super().open(ciphertext, noise_std)

    with desk(tmp_path, of, policy(), guardian=Looking(of)) as office:
        office.submit(plain())
    assert seen
    assert set(seen) == {2}


def no_room(office: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(journal, "write_all", full)


def gone(office: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = office.logbook.log.reader.directory
    folder.rename(folder.with_name("elsewhere"))


def closed(office: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    office.logbook.log.close()


@pytest.mark.parametrize(
    ("breaks", "error"), [(no_room, StorageFull), (gone, Damaged), (closed, Damaged)]
)
def test_without_a_working_log_nothing_is_opened(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    breaks: Callable[[Desk, pytest.MonkeyPatch], None],
    error: type[UndersealError],
) -> None:
    of = world()
    answer = of.ask(of.people[3])
    guardian = Watching(of)
    with desk(tmp_path, of, policy(), guardian=guardian) as office:
        breaks(office, monkeypatch)
        with pytest.raises(error):
            office.submit(answer)
        with pytest.raises(UndersealError):  # it stays so
            office.submit(answer)
        assert guardian.opened == []
        assert office.ledger.epoch_total(of.bundle.epoch) == 0
    monkeypatch.undo()
    elsewhere = tmp_path / "log" / "elsewhere"
    if elsewhere.exists():
        shutil.rmtree(tmp_path / "log" / TILES_NAME, ignore_errors=True)
        elsewhere.rename(tmp_path / "log" / TILES_NAME)
    with desk(tmp_path, of, policy()) as office:
        assert len(office.submit(answer).matches) == 1


def test_outcome_that_could_not_be_logged_is_not_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release is signed and stored, and still nobody gets it before the log has it."""
    of = world()
    answer = of.ask(of.people[3])
    guardian = Watching(of)
    with desk(tmp_path, of, policy(), guardian=guardian) as office:
        finish = office.ledger.finish

        def finish_then_full(*arguments: object) -> None:
            finish(*arguments)  # type: ignore[arg-type] # passed on as they are
            no_room(office, monkeypatch)

        monkeypatch.setattr(office.ledger, "finish", finish_then_full)
        with pytest.raises(StorageFull):
            office.submit(answer)
        with pytest.raises(Damaged):
            office.registrar.release(AGENCY, answer.request.request_id)
    monkeypatch.undo()
    opened = len(guardian.opened)
    with desk(tmp_path, of, policy(), guardian=guardian) as office:
        office.submit(answer)
        assert len(guardian.opened) == opened
        assert sum(isinstance(s, Outcome) for s in statements(office)) == 1
        assert office.ledger.epoch_total(of.bundle.epoch) == 1


def test_crash_after_the_outcome_was_logged_logs_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = world()
    answer = of.ask(of.people[3])

    def crash(*arguments: object) -> None:
        raise RuntimeError("power cut")

    with desk(tmp_path, of, policy()) as office:
        monkeypatch.setattr(Ledger, "logged", crash)
        with pytest.raises(RuntimeError):
            office.submit(answer)
    monkeypatch.undo()
    with desk(tmp_path, of, policy()) as office:
        delivery = office.delivery(answer)
        key = office.logbook.key
        assert sum(isinstance(s, Outcome) for s in statements(office)) == 1
    check_evidence(delivery.evidence, delivery.release, key, [AUDITOR.public_key])


def test_entries_hold_no_score_name_case_or_template(tmp_path: Path) -> None:
    of = world()
    answer = of.ask(at_cosine(of.people[3], 0.8), case_reference="Ada Lovelace")
    with desk(tmp_path, of, policy()) as office:
        release = office.submit(answer)
        log = office.logbook.log
        text = b"".join(entry for _, entry in log.reader.entries(log.size)).decode()
    (match,) = release.matches
    assert release.case_reference == "Ada Lovelace"
    (named,) = match.templates
    secrets = [
        "Ada",
        "Lovelace",
        f'"{match.score}"',
        "person-of",
        named.template_id,
        match.subject_id,
    ]
    assert [secret for secret in secrets if secret in text] == []
    assert '"purpose":"missing-person"' in text


def test_refusal_is_logged_with_its_charge_and_no_reason(tmp_path: Path) -> None:
    of = world()
    with desk(tmp_path, of, policy()) as office:
        with pytest.raises(PermissionRefused, match=UNIFORM):
            office.submit(too_long_probe(of, 1.3))
        *_, intent, outcome = statements(office)
    assert isinstance(intent, Intent)
    assert isinstance(outcome, Outcome)
    assert outcome.intent_sha256 == intent.sha256()
    assert (outcome.outcome, outcome.release_sha256) == ("refused", "")
    assert (outcome.matches, outcome.compared, outcome.values_charged) == (0, 0, 1)
    assert b"norm" not in outcome.payload()


def test_request_that_the_policy_refuses_is_not_logged(tmp_path: Path) -> None:
    of = world()
    with desk(tmp_path, of, policy()) as office:
        with pytest.raises(UndersealError):
            office.submit(of.ask(of.people[3], purpose="curiosity"))
        assert [type(s) for s in statements(office)] == [PolicyInForce]


def test_policy_is_logged_when_it_changes(tmp_path: Path) -> None:
    of = world()
    second, third = policy(serial=2, budget=900), policy(serial=3)
    for rules in (policy(), policy(), second, second, third):
        with desk(tmp_path, of, rules) as office:
            found = statements(office)
    budgets = [s.budget for s in found if isinstance(s, PolicyInForce)]
    assert budgets == [1000, 900, 1000]


def test_registrar_does_not_start_with_a_rolled_back_log(tmp_path: Path) -> None:
    of = world()
    with desk(tmp_path, of, policy()):
        pass
    shutil.copytree(tmp_path / "log", tmp_path / "old")
    with desk(tmp_path, of, policy()) as office:
        office.submit(of.ask(of.people[3]))
    shutil.rmtree(tmp_path / "log")
    (tmp_path / "old").rename(tmp_path / "log")
    with pytest.raises(Damaged, match="rolled back"), desk(tmp_path, of, policy()):
        pass


def keep_database(folder: Path, copy: Path) -> None:
    copy.mkdir()
    for file in folder.glob("registrar.sqlite*"):
        shutil.copy(file, copy / file.name)


@pytest.mark.parametrize("answered", [True, False], ids=["answered since", "opened since"])
def test_registrar_does_not_start_on_a_rolled_back_database(tmp_path: Path, answered: bool) -> None:
    """An old copy would forget what was opened, and what of the budget is spent."""
    of = world()
    with desk(tmp_path, of, policy()) as office:
        office.submit(of.ask(of.people[3]))
    keep_database(tmp_path, tmp_path / "old")
    guardian = Watching(of)
    guardian.fails = not answered
    with desk(tmp_path, of, policy(), guardian=guardian) as office:
        if answered:
            office.submit(of.ask(of.people[4]))
        else:
            with pytest.raises(RuntimeError):
                office.submit(of.ask(of.people[4]))
    keep_database(tmp_path, tmp_path / "new")
    for name, refused in (("old", True), ("new", False)):
        for file in tmp_path.glob("registrar.sqlite*"):
            file.unlink()
        for file in (tmp_path / name).iterdir():
            shutil.copy(file, tmp_path / file.name)
        if refused:
            with pytest.raises(Damaged, match="older than its log"), desk(tmp_path, of, policy()):
                pass
        else:
            with desk(tmp_path, of, policy()):
                pass


def test_log_folder_is_checked(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        open_logbook(tmp_path, AUDITOR)
    key = create_logbook(tmp_path / "log", "log.example/one")
    assert (tmp_path / "log" / VKEY_NAME).read_text().strip() == key.vkey()
    assert (tmp_path / "log" / KEY_NAME).stat().st_mode & 0o077 == 0
    with pytest.raises(Conflict):
        create_logbook(tmp_path / "log", "log.example/two")
    other = create_logbook(tmp_path / "other", "log.example/two")
    (tmp_path / "log" / VKEY_NAME).write_text(other.vkey())
    with pytest.raises(InvalidInput, match="belong together"):
        open_logbook(tmp_path / "log", AUDITOR)
    (tmp_path / "log" / VKEY_NAME).write_text(key.vkey())
    with pytest.raises(InvalidInput, match="key of its own"):
        open_logbook(tmp_path / "log", Identity.load(tmp_path / "log" / KEY_NAME))
    with pytest.raises(InvalidInput):
        create_logbook(tmp_path / "third", "two words")


def test_statements_of_another_signer_are_no_entries(tmp_path: Path) -> None:
    of = world()
    with desk(tmp_path, of, policy()) as office:
        delivery = office.delivery(of.ask(of.people[3]))
    entry = delivery.evidence.intent.entry
    with pytest.raises(Damaged, match="not signed by an auditor"):
        open_entry(entry, frozenset({CLIENT.public_key}))
    forged = entry.replace(b'"missing-person"', b'"border"')
    with pytest.raises(Damaged, match="signature"):
        open_entry(forged)
