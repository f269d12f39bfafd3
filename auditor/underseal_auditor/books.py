"""The registrar's books: its ledger and its transparency log, kept in step.

    announce   the ledger takes the request and its ciphertexts for good; then the intent is in
               the log, durable and under a signed checkpoint. Now guardians may open
    release    release and charge are in the ledger; then the outcome is in the log; then the
               release may be sent, with both receipts
    refuse     likewise

A request that was announced and not answered keeps its intent: tried again, it is not announced
a second time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from underseal_auditor.logbook import Logbook, outcome_of
from underseal_auditor.store.ledger import Answer, Ledger
from underseal_auditor.store.submission import Cost, Submission, cost_of
from underseal_auditor.verify.announcement import Authority, intent_of
from underseal_auditor.verify.chain import Chain
from underseal_core.errors import Damaged, PermissionRefused
from underseal_core.log_entries import REFUSED, RELEASED, Alarm, Intent, Logged, open_entry_as
from underseal_core.log_evidence import Evidence, check_intent
from underseal_core.provenance import Origin
from underseal_core.signing import Envelope
from underseal_core.statements import Release, utc_text


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a client gets: the signed release, and the proofs that it is in the log.

    ``origins``: who enrolled the matches, in the order of their ranks.
    """

    release: Envelope
    evidence: Evidence
    origins: tuple[Origin, ...]


@dataclass(frozen=True, slots=True)
class Announced:
    """A submission whose intent is in the log."""

    submission: Submission
    intent: Intent
    logged: Logged


class Books:
    """Writes both. Thread-safe.

    Parameters
    ----------
    clock
        Returns aware times.
    """

    def __init__(self, ledger: Ledger, logbook: Logbook, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._logbook = logbook
        self._clock = clock
        self._lock = threading.Lock()

    def resume(self, key_epoch: str) -> None:
        """Log what a crash left unlogged, and hold both against each other.

        Raises
        ------
        Damaged
            The log was rolled back; or the ledger was: it would open again what was opened.
        StorageFull
            The log cannot be written.
        """
        ledger = self._ledger
        self._logbook.check_extends(ledger.log_head())
        for client, request_id in ledger.unlogged():
            self._settle(client, request_id)
        last = self._logbook.last(key_epoch)
        known = last.intent is None or ledger.knows(last.intent.client, last.intent.request_id)
        total = 0 if last.outcome is None else last.outcome.epoch_total
        if not known or ledger.epoch_total(key_epoch) < total:
            raise Damaged(
                "the registrar's data is older than its log",
                hint="restore the newest copy; an old one would open again what was opened",
            )

    def stored(self, submission: Submission) -> Delivery | None:
        """Return the answer to a submission, logged, or None if there is none yet.

        Raises
        ------
        Conflict
            The request id was submitted with other content.
        PermissionRefused
            It was refused.
        """
        if self._ledger.answer(submission) is None:
            return None
        return self._delivery(submission.client, submission.request_id)

    def delivered(self, client: str, request_id: str) -> Delivery | None:
        """Return the answer to one of a client's requests, likewise."""
        if self._ledger.release(client, request_id) is None:
            return None
        return self._delivery(client, request_id)

    def announce(
        self, submission: Submission, openings: Sequence[bytes], chain: Chain, authority: Authority
    ) -> Announced:
        """Take a request and its ciphertexts for good, and log the intent to open them.

        Parameters
        ----------
        openings
            SHA-256 of the second component of each ciphertext.

        Raises
        ------
        Conflict
            A ciphertext was opened for another request.
        StorageFull, Damaged
            The log cannot be written: open nothing.
        """
        ledger, logbook = self._ledger, self._logbook
        ledger.begin(submission, openings, self._clock())
        kept = ledger.intent(submission)
        at = utc_text(self._clock())
        if kept.entry:
            at = open_entry_as(Intent, kept.entry).at
        intent = intent_of(chain, authority, at)
        entry = logbook.signed(intent)
        if entry != kept.entry:
            ledger.intend(submission, entry)
            written = logbook.append(entry)
        else:
            written = logbook.append_once(entry, kept.receipt)
        ledger.announced(submission, written.logged, written.checkpoint)
        hashes = submission.request_sha256, submission.result_sha256
        check_intent(written.logged, logbook.key, frozenset({logbook.signer}), *hashes)
        return Announced(submission, intent, written.logged)

    def release(
        self,
        announced: Announced,
        envelope: Envelope,
        release: Release,
        origins: tuple[Origin, ...],
    ) -> Delivery:
        """Store a signed release with its charge, log it, and return it with its receipts."""
        submission = announced.submission
        total = release.epoch_total
        entry = self._outcome(announced.intent, release.values_charged, total, release)
        cost = cost_of(release, announced.intent.gallery)
        self._ledger.finish(submission, envelope, cost, self._clock(), entry, origins)
        return self._delivery(submission.client, submission.request_id, fresh=True)

    def refuse(self, announced: Announced, rule: str, cost: Cost) -> None:
        """Store that ``rule`` refused, with what it costs, and log the refusal."""
        submission = announced.submission
        total = self._ledger.epoch_total(submission.key_epoch) + cost.charge
        entry = self._outcome(announced.intent, cost.charge, total)
        self._ledger.refuse(submission, rule, cost, self._clock(), entry)
        self._settle(submission.client, submission.request_id, fresh=True)

    def alarm(self, chain: Chain, rule: str, key_epoch: str) -> None:
        """Log that a server was caught.

        Raises
        ------
        StorageFull, Damaged
            The log cannot be written.
        """
        request, result = chain.request, chain.result
        alarm = Alarm(
            server=result.server,
            rule=rule,
            request_id=request.request_id,
            request_sha256=chain.request_sha256,
            result_sha256=chain.result_sha256,
            client=request.client,
            gallery=request.gallery,
            key_epoch=key_epoch,
            at=utc_text(self._clock()),
        )
        written = self._logbook.append(self._logbook.signed(alarm))
        self._ledger.keep_log_head(written.checkpoint)

    def _outcome(
        self, intent: Intent, charge: int, epoch_total: int, release: Release | None = None
    ) -> bytes:
        """Return the entry; of a refusal it says nothing but its charge."""
        outcome = outcome_of(
            intent,
            outcome=REFUSED if release is None else RELEASED,
            release_sha256="" if release is None else release.sha256(),
            matches=0 if release is None else len(release.matches),
            compared=0 if release is None else release.compared,
            values_charged=charge,
            epoch_total=epoch_total,
            warrant_deadline="" if release is None else release.warrant_deadline,
            at=utc_text(self._clock()),
        )
        return self._logbook.signed(outcome)

    def _delivery(self, client: str, request_id: str, *, fresh: bool = False) -> Delivery:
        stored = self._settle(client, request_id, fresh=fresh)
        if stored.release is None:
            raise uniform_refusal(request_id)
        witnessed = self._logbook.witnessed(stored.evidence.outcome.receipt)
        evidence = replace(stored.evidence, witnessed=witnessed)
        return Delivery(stored.release, evidence, stored.origins)

    def _settle(self, client: str, request_id: str, *, fresh: bool = False) -> Answer:
        """Log the outcome of a stored answer, once, and keep its receipt.

        Unless the answer is ``fresh``, a crash may have left its entry in the log already.
        """
        ledger, logbook = self._ledger, self._logbook
        with self._lock:
            stored = ledger.release(client, request_id)
            if stored is None:
                raise Damaged("the request is not answered")
            evidence = stored.evidence
            if evidence.outcome.receipt or not evidence.outcome.entry:
                return stored
            append = logbook.append if fresh else logbook.append_once
            written = append(evidence.outcome.entry)
            ledger.logged(client, request_id, written.logged.receipt, written.checkpoint)
        return replace(stored, evidence=Evidence(evidence.intent, written.logged))


def uniform_refusal(request_id: str) -> PermissionRefused:
    """Return the one error for whatever was opened and is not released."""
    return PermissionRefused(
        "the auditors refuse this request",
        hint=f"ask the auditors, quoting request id {request_id}",
    )
