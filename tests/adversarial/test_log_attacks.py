"""A registrar that holds the log's key and cheats: rolls back, forks, skips the log, or lies in it.

The client is the product's own: its check of a release, its memory of checkpoints.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from tests.auditor_world import AUDITOR, Answer, Desk, at_cosine, desk, policy, world
from underseal_auditor.books import Delivery
from underseal_auditor.logbook import Logbook, open_logbook
from underseal_auditor.logs.audit import EntryAudit
from underseal_auditor.logs.mirror import LogMirror, RewrittenLog
from underseal_client.logged import NOBODY, InLog, Witnesses, believe
from underseal_client.records import Delivered
from underseal_client.resume import ClientState
from underseal_core.errors import Busy, Damaged, PermissionRefused, UndersealError
from underseal_core.log_entries import Intent, Logged, Outcome, PolicyInForce, open_entry_as
from underseal_core.log_evidence import Evidence
from underseal_core.roster import Roster
from underseal_core.signing import Identity
from underseal_core.tlog.audit import verify_log
from underseal_core.tlog.cosigned import CosignedCheckpoints
from underseal_core.tlog.layout import encode_bundle
from underseal_core.tlog.log import TransparencyLog
from underseal_core.tlog.note import KeyKind, NoteSigner, VerifierKey
from underseal_core.tlog.proof import Receipt
from underseal_core.tlog.witness import Witness

MEMBERS = [AUDITOR.public_key]
NOTHING = Logged(b"", b"")


@cache
def answers() -> list[Answer]:
    """Three honest searches; every registrar here is a new one, so they can be used again."""
    of = world("swift")
    return [of.ask(at_cosine(of.people[index], 0.9)) for index in range(3)]


@dataclass
class Client:
    """A client with its memory."""

    state: ClientState
    key: VerifierKey

    def believe(
        self, delivery: Delivery, log: TransparencyLog, witnesses: Witnesses = NOBODY
    ) -> InLog:
        delivered = Delivered(delivery.release, delivery.evidence, delivery.origins)
        prove = log.reader.prove_consistency
        return believe(delivered, self.key, MEMBERS, self.state, prove, witnesses)


def open_desk(folder: Path):  # type: ignore[no-untyped-def] # a context manager of the world's
    return desk(folder, world("swift"), policy("swift"))


def client_of(office: Desk, folder: Path) -> Client:
    return Client(ClientState(folder / "client.sqlite"), office.logbook.key)


@pytest.mark.parametrize("again", [1, 2], ids=["shorter than before", "as long as before"])
def test_log_rolled_back(tmp_path: Path, again: int) -> None:
    """Log and database are put back to an older state, and the registrar goes on from there."""
    place, backup = tmp_path / "registrar", tmp_path / "backup"
    place.mkdir()
    with open_desk(place) as office:
        client = client_of(office, tmp_path)
    shutil.copytree(place, backup)
    with open_desk(place) as office:
        for answer in answers()[:2]:
            believed = client.believe(office.delivery(answer), office.logbook.log)
    assert believed.size == 5
    shutil.rmtree(place)
    backup.rename(place)
    with open_desk(place) as office:
        deliveries = [office.delivery(answer) for answer in reversed(answers()[-again:])]
        with pytest.raises(Damaged):
            client.believe(deliveries[-1], office.logbook.log)
    assert len(client.state.conflicts(client.key.vkey())) == 1


def test_log_forked(tmp_path: Path) -> None:
    """Two logs under one key: whoever has seen one does not believe the other, however long."""
    place, fork = tmp_path / "registrar", tmp_path / "fork"
    place.mkdir()
    with open_desk(place) as office:
        client = client_of(office, tmp_path)
        witness = Witness(
            tmp_path / "witness",
            NoteSigner("witness.example", Identity.generate(), KeyKind.COSIGNATURE),
            [client.key],
        )
    shutil.copytree(place, fork)
    with open_desk(place) as office:
        client.believe(office.delivery(answers()[0]), office.logbook.log)
        log = office.logbook.log
        mirror = LogMirror(tmp_path / "mirror", client.key)
        mirror.update(Local(log))
        witness.add_checkpoint(log.witness_request(0).to_bytes())
        seen = log.checkpoint
    with open_desk(fork) as office:
        log = office.logbook.log
        deliveries = [office.delivery(answer) for answer in answers()[1:]]
        for delivery in deliveries:  # as long as what was seen, and longer
            with pytest.raises(Damaged, match="forked"):
                client.believe(delivery, log)
        with pytest.raises(RewrittenLog, match="forked"):
            mirror.update(Local(log))
        with pytest.raises(Damaged, match="forked"):
            witness.add_checkpoint(log.witness_request(3).to_bytes())
        with pytest.raises(Damaged, match="forked"):
            verify_log(log.reader.directory, log.key, [seen])
    assert len(list((tmp_path / "mirror" / "alarms").iterdir())) == 1


def test_log_forked_for_one_client(tmp_path: Path) -> None:
    """The client has never seen another history; only the witness has."""
    place, fork = tmp_path / "registrar", tmp_path / "fork"
    place.mkdir()
    signer = NoteSigner("witness.example", Identity.generate(), KeyKind.COSIGNATURE)
    stranger = NoteSigner("witness.example", Identity.generate(), KeyKind.COSIGNATURE)
    with open_desk(place) as office:
        client, honest = client_of(office, tmp_path), client_of(office, tmp_path / "honest")
        witness = Witness(tmp_path / "witness", signer, [client.key])
        before = cosigned(witness, office.logbook.log, 0)
    shutil.copytree(place, fork)
    one = Witnesses((signer.key,), 1)
    with open_desk(place) as office:
        told = office.delivery(answers()[0])
        with pytest.raises(Busy, match="0 of the 1 witnesses"):
            honest.believe(told, office.logbook.log, one)
        seen = cosigned(witness, office.logbook.log, 1)
        witnessed = office.logbook.log.receipt(2, seen).to_bytes()
        told = replace(told, evidence=replace(told.evidence, witnessed=(witnessed,)))
        assert honest.believe(told, office.logbook.log, one).witnessed_by == ("witness.example",)
    with open_desk(fork) as office:
        told, log = office.delivery(answers()[1]), office.logbook.log
        own = Receipt.parse(told.evidence.outcome.receipt)
        assumed = Witness(tmp_path / "own", stranger, [client.key])
        forgeries: list[tuple[bytes, ...]] = [
            (),
            (replace(own, checkpoint=cosigned(assumed, log, 0)).to_bytes(),),
            (replace(own, checkpoint=seen).to_bytes(),),
            (replace(own, checkpoint=before).to_bytes(),),
            (witnessed,),
        ]
        for forged in forgeries:
            evidence = replace(told.evidence, witnessed=forged)
            with pytest.raises((Busy, Damaged)):
                client.believe(replace(told, evidence=evidence), log, one)
        with pytest.raises(Damaged, match="forked"):
            witness.add_checkpoint(log.witness_request(3).to_bytes())
        with pytest.raises(Damaged, match="another history"):
            CosignedCheckpoints(log, [signer.key]).add(seen)


def cosigned(witness: Witness, log: TransparencyLog, old: int) -> bytes:
    """A log's newest checkpoint with a witness's cosignature."""
    witness.add_checkpoint(log.witness_request(old).to_bytes())
    latest = witness.latest(log.key.name)
    assert latest is not None
    return latest.raw


def test_log_forked_for_two_searches_at_once(tmp_path: Path) -> None:
    """Each search is shown a history that extends what was seen before it began."""
    place, fork = tmp_path / "registrar", tmp_path / "fork"
    place.mkdir()
    with open_desk(place) as office:
        client = client_of(office, tmp_path)
    shutil.copytree(place, fork)
    with open_desk(place) as office, open_desk(fork) as forked:
        first, second = office.delivery(answers()[0]), forked.delivery(answers()[1])
        log, other = office.logbook.log, forked.logbook.log
        asked = 0

        def overtaken(old: int, new: int) -> tuple[bytes, ...]:
            """The second search ends while the first one asks for its proof."""
            nonlocal asked
            asked += 1
            if asked == 1:
                client.believe(second, other)
            return log.reader.prove_consistency(old, new)

        delivered = Delivered(first.release, first.evidence, first.origins)
        with pytest.raises(Damaged, match="forked"):
            believe(delivered, client.key, MEMBERS, client.state, overtaken)
    assert len(client.state.conflicts(client.key.vkey())) == 1


@dataclass
class Local:
    """A log as a watcher reaches it."""

    log: TransparencyLog

    def checkpoint(self) -> bytes:
        return self.log.checkpoint

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        return self.log.reader.prove_consistency(old, new)

    def tile(self, level: int, index: int, size: int) -> bytes:
        return b"".join(self.log.reader.tile(level, index, size))

    def entries(self, bundle: int, size: int) -> bytes:
        return encode_bundle(self.log.reader.bundle(bundle, size))


Forge = Callable[[Delivery, Logbook, Path], Evidence]


def nothing_logged(honest: Delivery, book: Logbook, folder: Path) -> Evidence:
    return Evidence(NOTHING, NOTHING)


def entries_without_receipts(honest: Delivery, book: Logbook, folder: Path) -> Evidence:
    intent, outcome = honest.evidence.intent, honest.evidence.outcome
    return Evidence(Logged(intent.entry, b""), Logged(outcome.entry, b""))


def no_outcome(honest: Delivery, book: Logbook, folder: Path) -> Evidence:
    return Evidence(honest.evidence.intent, NOTHING)


def no_intent(honest: Delivery, book: Logbook, folder: Path) -> Evidence:
    return Evidence(NOTHING, honest.evidence.outcome)


def receipts_exchanged(honest: Delivery, book: Logbook, folder: Path) -> Evidence:
    intent, outcome = honest.evidence.intent, honest.evidence.outcome
    return Evidence(Logged(intent.entry, outcome.receipt), Logged(outcome.entry, intent.receipt))


def logged_elsewhere(honest: Delivery, book: Logbook, folder: Path) -> Evidence:
    """In a log that nobody watches, under the same name."""
    signer = NoteSigner(book.key.name, Identity.generate())
    with TransparencyLog.create(folder / "private", signer) as log:
        other = Logbook(log, AUDITOR)
        intent = other.append(honest.evidence.intent.entry).logged
        return Evidence(intent, other.append(honest.evidence.outcome.entry).logged)


def logged_afterwards(honest: Delivery, book: Logbook, folder: Path) -> Evidence:
    """Open first, announce later: intent behind the outcome."""
    outcome = honest.evidence.outcome
    return Evidence(book.append(honest.evidence.intent.entry).logged, outcome)


def announced_together(honest: Delivery, book: Logbook, folder: Path) -> Evidence:
    """Both entries in one go: no checkpoint covers the intent and not the outcome."""
    entries = [honest.evidence.intent.entry, honest.evidence.outcome.entry]
    first, second = book.log.append_many(entries)
    receipts = [book.log.receipt(one.index, one.checkpoint) for one in (first, second)]
    intent, outcome = (
        Logged(entry, receipt.to_bytes()) for entry, receipt in zip(entries, receipts, strict=True)
    )
    return Evidence(intent, outcome)


def told_less(**changes: object) -> Forge:
    def forge(honest: Delivery, book: Logbook, folder: Path) -> Evidence:
        outcome = open_entry_as(Outcome, honest.evidence.outcome.entry)
        told = book.signed(outcome.model_copy(update=changes))
        return Evidence(honest.evidence.intent, book.append(told).logged)

    forge.__name__ = "_".join(("told", *changes))
    return forge


def another_purpose(honest: Delivery, book: Logbook, folder: Path) -> Evidence:
    intent = open_entry_as(Intent, honest.evidence.intent.entry)
    told = book.signed(intent.model_copy(update={"purpose": "border"}))
    return Evidence(book.append(told).logged, book.append(honest.evidence.outcome.entry).logged)


def signed_by_a_stranger(honest: Delivery, book: Logbook, folder: Path) -> Evidence:
    stranger = Logbook(book.log, Identity.generate())
    intent = open_entry_as(Intent, honest.evidence.intent.entry)
    outcome = open_entry_as(Outcome, honest.evidence.outcome.entry)
    written = [stranger.append(stranger.signed(one)).logged for one in (intent, outcome)]
    return Evidence(written[0], written[1])


FORGERIES: list[Forge] = [
    nothing_logged,
    entries_without_receipts,
    no_outcome,
    no_intent,
    receipts_exchanged,
    logged_elsewhere,
    logged_afterwards,
    announced_together,
    told_less(outcome="refused", release_sha256=""),
    told_less(matches=0),
    told_less(values_charged=0),
    told_less(epoch_total=0),
    told_less(release_sha256="0" * 64),
    told_less(client="bureau"),
    another_purpose,
    signed_by_a_stranger,
]


@pytest.mark.parametrize("forge", FORGERIES)
def test_registrar_skips_the_log(tmp_path: Path, forge: Forge) -> None:
    """The release is real and signed; what is wrong is only what the log has of it."""
    with open_desk(tmp_path) as office:
        honest = office.delivery(answers()[0])
        book = office.logbook
        evidence = forge(honest, book, tmp_path)
        client = client_of(office, tmp_path)
        with pytest.raises((Damaged, PermissionRefused)):
            client.believe(replace(honest, evidence=evidence), book.log)
        assert client.state.log_seen(client.key.vkey()) == b""
        assert client.believe(honest, book.log).intent_index == 1


def test_receipt_of_another_release(tmp_path: Path) -> None:
    with open_desk(tmp_path) as office:
        first, second = (office.delivery(answer) for answer in answers()[:2])
        client = client_of(office, tmp_path)
        mixed = [
            Evidence(first.evidence.intent, first.evidence.outcome),
            Evidence(first.evidence.intent, second.evidence.outcome),
            Evidence(second.evidence.intent, first.evidence.outcome),
        ]
        for evidence in mixed:
            with pytest.raises(Damaged):
                client.believe(
                    Delivery(second.release, evidence, second.origins), office.logbook.log
                )


def test_every_bit_of_a_receipt_counts(tmp_path: Path) -> None:
    with open_desk(tmp_path) as office:
        honest = office.delivery(answers()[0])
        client = client_of(office, tmp_path)
        receipt = Receipt.parse(honest.evidence.outcome.receipt)
        assert receipt.path
        for hurt in [
            replace(receipt, index=receipt.index - 1),
            replace(receipt, path=receipt.path[:-1]),
            replace(receipt, path=(bytes(32), *receipt.path[1:])),
            replace(receipt, checkpoint=receipt.checkpoint.replace(b"\n3\n", b"\n4\n")),
        ]:
            outcome = Logged(honest.evidence.outcome.entry, hurt.to_bytes())
            evidence = replace(honest.evidence, outcome=outcome)
            with pytest.raises(UndersealError):
                client.believe(replace(honest, evidence=evidence), office.logbook.log)


def findings_of(book: Logbook) -> set[str]:
    audit = EntryAudit((Roster.first(world("swift").bundle),))
    verify_log(book.log.reader.directory, book.key, visit=audit.visit)
    return {finding.rule for finding in audit.findings}


def test_log_that_hides_charges_or_answers_twice(tmp_path: Path) -> None:
    """Anyone who reads the entries notices, without having been a client."""
    with open_desk(tmp_path) as office:
        honest = office.delivery(answers()[0])
        book = office.logbook
        assert findings_of(book) == set()
        intent = open_entry_as(Intent, honest.evidence.intent.entry)
        outcome = open_entry_as(Outcome, honest.evidence.outcome.entry)
    policy_entry = book.last(intent.key_epoch).policy
    assert policy_entry is not None
    lies: dict[str, list[Intent | Outcome | PolicyInForce]] = {
        "approved": [policy_entry.model_copy(update={"serial": 2})],
        "serial": [policy_entry.model_copy(update={"policy_sha256": "0" * 64})],
        "answered": [intent],
        "total": [outcome.model_copy(update={"epoch_total": 0})],
        "budget": [outcome.model_copy(update={"values_charged": 99, "epoch_total": 100})],
        "intent": [outcome],
        "policy": [intent.model_copy(update={"policy_sha256": "0" * 64})],
    }
    for rule, statements in lies.items():
        place = tmp_path / rule
        shutil.copytree(tmp_path / "log", place)
        book = open_logbook(place, AUDITOR)
        for statement in statements:
            book.append(book.signed(statement))
        assert rule in findings_of(book)
        book.close()
    stranger = open_logbook(tmp_path / "log", Identity.generate())
    stranger.append(stranger.signed(intent))
    stranger.append(b"no statement")
    assert {"member", "signed"} <= findings_of(stranger)
    stranger.close()
