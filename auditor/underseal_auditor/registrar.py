"""The registrar: takes a submission, has it opened, and answers with a signed release.

    admit     signatures, policy, duplicates: before any ciphertext is read
    answer    catalogue root, budget, the probe's checks computed again; then the ledger takes the
              request and its ciphertexts for good; then the intent is in the transparency log,
              durable and under a signed checkpoint; then the guardian opens; then the release and
              its charge are on disk; then the outcome is in the log; then the release is sent
              with both receipts

No log entry, no decryption: a log that cannot be written stops everything.
Whatever was opened and is not released is refused in one and the same words.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from underseal_auditor.guardian import Dossier, Guardian, Opening
from underseal_auditor.logbook import Logbook, outcome_of
from underseal_auditor.mirror import CatalogueFeed, Mirror
from underseal_auditor.opening import Verdict, judge
from underseal_auditor.policy.document import Policy
from underseal_auditor.policy.rulebook import Rulebook
from underseal_auditor.policy.rules import Case, Terms, decide
from underseal_auditor.policy.signed import SignedPolicy
from underseal_auditor.release import Hit, match_of
from underseal_auditor.store.ledger import Answer, Ledger, Submission
from underseal_auditor.verify.catalogue import View
from underseal_auditor.verify.chain import Chain, Intake, client_key, open_chain
from underseal_auditor.verify.probe import check_recomputed
from underseal_core.credentials import Peer
from underseal_core.errors import (
    Busy,
    Damaged,
    InvalidInput,
    Mismatch,
    NotFound,
    PermissionRefused,
)
from underseal_core.labels import OpeningKey, label_context, open_label
from underseal_core.log_entries import REFUSED, RELEASED, Intent, Logged, policy_in_force
from underseal_core.log_evidence import Evidence, check_intent
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.signing import Envelope, Identity
from underseal_core.statements import Match, Release, utc_text

_log: Final = structlog.get_logger("underseal.registrar")

UNREADABLE: Final = ""
"""Label of a match whose sealed label does not open: the match itself is real."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A submission that may send its ciphertexts under ``policy``; times are judged at ``now``."""

    submission: Submission
    request: Envelope
    result: Envelope
    intake: Intake
    policy: Policy
    now: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a client gets: the signed release, and the proofs that it is in the log."""

    release: Envelope
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Office:
    """What a registrar works with.

    ``feeds``: the servers' catalogues, by the names in the policy. ``clock`` returns aware times.
    ``evaluator``: of the public bundle, to check what servers computed.
    """

    rulebook: Rulebook
    guardian: Guardian
    evaluator: Evaluator
    label_key: OpeningKey
    identity: Identity
    ledger: Ledger
    logbook: Logbook
    mirror: Mirror
    feeds: Mapping[str, CatalogueFeed]
    clock: Callable[[], datetime]

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.rulebook.policy


@dataclass(frozen=True, slots=True)
class Announced:
    """An intent that is in the log."""

    intent: Intent
    logged: Logged


class Registrar:
    """Answers submissions, one at a time."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._lock = threading.Lock()

    def resume(self) -> None:
        """Do what a crash left undone, and log the policy if it is another one than before.

        Raises
        ------
        Damaged
            The log is not the one that this registrar wrote so far: it was rolled back. Or the
            registrar's own data was: it would open again what it opened, from an old budget.
        StorageFull
            The log cannot be written.
        """
        office = self._office
        office.logbook.check_extends(office.ledger.log_head())
        with self._lock:
            for client, request_id in office.ledger.unlogged():
                self._settle(client, request_id)
        self._check_own_memory(office.guardian.keys.epoch)
        self._log_policy()

    def adopt(self, signed: SignedPolicy) -> None:
        """Put another policy in force, for every submission that is not being opened already.

        Raises
        ------
        Mismatch, Conflict
            See :class:`Rulebook`.
        StorageFull, Damaged
            The log cannot be written: it stops everything.
        """
        with self._lock:
            self._office.rulebook.adopt(signed)
            self._log_policy()
        _log.info("policy in force", policy=signed.policy.sha256, serial=signed.approval.serial)

    def _log_policy(self) -> None:
        office, keys = self._office, self._office.guardian.keys
        signed = office.rulebook.signed
        entry = policy_in_force(
            signed.approval,
            signed.envelope.signatures,
            profile=keys.profile,
            budget=signed.policy.document.release.budget,
            at=utc_text(office.clock()),
        )
        office.logbook.put_in_force(entry)
        office.ledger.keep_log_head(office.logbook.log.checkpoint)

    def _check_own_memory(self, key_epoch: str) -> None:
        """Hold the database against the log, which clients and watchers remember."""
        ledger, last = self._office.ledger, self._office.logbook.last(key_epoch)
        known = last.intent is None or ledger.knows(last.intent.client, last.intent.request_id)
        total = 0 if last.outcome is None else last.outcome.epoch_total
        if not known or ledger.epoch_total(key_epoch) < total:
            raise Damaged(
                "the registrar's data is older than its log",
                hint="restore the newest copy; an old one would open again what was opened",
            )

    def admit(self, peer: Peer, request: Envelope, result: Envelope) -> Delivery | Admission:
        """Check a submission's statements.

        Returns
        -------
        Delivery or Admission
            The stored release if there is one; otherwise what to fill with ciphertexts.

        Raises
        ------
        PermissionRefused, InvalidInput, Mismatch
            See :func:`open_chain` and :func:`decide`; also a refusal that was stored.
        Conflict
            The request id was submitted with other content.
        """
        office = self._office
        now = office.clock()
        chain = open_chain(office.policy.document, peer, request, result, now)
        submission = Submission(
            client=chain.request.client,
            request_id=chain.request.request_id,
            request_sha256=chain.request_sha256,
            result_sha256=chain.result_sha256,
            key_epoch=office.guardian.keys.epoch,
        )
        stored = office.ledger.answer(submission)
        if stored is not None:
            return self._deliver(stored, submission.client, submission.request_id)
        self._terms(chain, submission, now)
        intake = Intake(chain, office.policy.profile)
        return Admission(submission, request, result, intake, office.policy, now)

    def answer(self, admission: Admission) -> Delivery:
        """Open a complete submission and return the signed release, stored and logged before.

        Raises
        ------
        PermissionRefused
            The opened numbers broke a rule, or the budget is used up.
        InvalidInput
            Ciphertexts are missing.
        Damaged, Mismatch, Busy
            The server's catalogue is not the one that the result was signed for, or out of reach;
            its norm or projection is not the probe's.
        Conflict
            A ciphertext was opened before.
        StorageFull, Damaged
            The log cannot be written: nothing is opened, or nothing is sent.
        """
        office, submission = self._office, admission.submission
        sealed = admission.intake.complete()
        with self._lock:
            if office.policy is not admission.policy:
                raise Busy("the policy has just changed", hint="submit again")
            stored = office.ledger.answer(submission)
            if stored is not None:
                return self._settled(submission.client, submission.request_id)
            chain = admission.intake.chain
            terms = self._terms(chain, submission, admission.now)
            view = self._view(chain)
            check_recomputed(office.evaluator, sealed)
            dossier = Dossier(admission.request, admission.result, chain, sealed)
            opening = office.guardian.begin(dossier)
            office.ledger.begin(submission, sealed.openings(), office.clock())
            announced = self._announce(submission, chain, len(sealed.openings()))
            verdict = judge(opening, sealed, view, chain.request.targets, terms)
            self._conclude(submission, chain, terms, verdict, announced, opening)
            return self._settled(submission.client, submission.request_id, fresh=True)

    def release(self, peer: Peer, request_id: str) -> Delivery:
        """Return the stored release of one of ``peer``'s requests.

        Raises
        ------
        NotFound
            Never answered.
        PermissionRefused
            It was refused, or the policy does not name this client with this key.
        """
        client_key(self._office.policy.document, peer)
        stored = self._office.ledger.release(peer.name, request_id)
        if stored is None:
            raise NotFound(
                "no release of this request is stored",
                hint="check the id: only your own requests' releases can be read",
            )
        return self._deliver(stored, peer.name, request_id)

    def policy(self) -> Policy:
        """Return the policy in force."""
        return self._office.policy

    def _terms(self, chain: Chain, submission: Submission, now: datetime) -> Terms:
        office = self._office
        case = Case(
            request=chain.request,
            keys=office.guardian.keys,
            templates=chain.result.snapshot.templates,
            record=office.ledger.record(submission, now),
            now=now,
            server=chain.result.server,
        )
        decision = decide(office.policy, case)
        if decision.terms is None:
            _log.warning("refused", rule=decision.rule, request=chain.request.request_id)
            raise decision.refusal or PermissionRefused("the policy does not allow this")
        return decision.terms

    def _view(self, chain: Chain) -> View:
        office, request, result = self._office, chain.request, chain.result
        feed = office.feeds.get(result.server)
        if feed is None:
            raise PermissionRefused(
                "the registrar does not know where this server is", hint="ask the auditors"
            )
        if feed.pin(request.gallery) != request.pin:
            raise Mismatch("the gallery is pinned to another model, profile or key epoch")
        office.mirror.update(result.server, request.gallery, feed)
        view = office.mirror.view(result.server, result.snapshot)
        blocks = tuple(b.block for b in result.blocks)
        if (blocks, result.compared) != view.expected(request.targets):
            raise InvalidInput("the result does not hold exactly the blocks to compare with")
        return view

    def _announce(self, submission: Submission, chain: Chain, ciphertexts: int) -> Announced:
        """Log the intent; what follows may be opened once this has returned."""
        office, request, snapshot = self._office, chain.request, chain.result.snapshot
        intent = Intent(
            request_id=submission.request_id,
            request_sha256=submission.request_sha256,
            result_sha256=submission.result_sha256,
            client=submission.client,
            purpose=request.purpose,
            server=chain.result.server,
            gallery=request.gallery,
            snapshot_version=snapshot.version,
            snapshot_root=snapshot.root,
            templates=snapshot.templates,
            ciphertexts=ciphertexts,
            policy_sha256=office.policy.sha256,
            key_epoch=submission.key_epoch,
            at=utc_text(office.clock()),
        )
        written = office.logbook.intend(intent)
        office.ledger.keep_log_head(written.checkpoint)
        members = frozenset({office.identity.public_key})
        hashes = submission.request_sha256, submission.result_sha256
        check_intent(written.logged, office.logbook.key, members, *hashes)
        return Announced(intent, written.logged)

    def _conclude(
        self,
        submission: Submission,
        chain: Chain,
        terms: Terms,
        verdict: Verdict,
        announced: Announced,
        opening: Opening,
    ) -> None:
        """Store the answer, its charge, and what the log will say about it."""
        office = self._office
        total = office.ledger.epoch_total(submission.key_epoch)
        left = office.policy.document.release.budget - total
        if verdict.rule or verdict.charge > left:
            rule = verdict.rule or "budget-overrun"
            charge = min(verdict.charge, left)
            entry = self._outcome(announced.intent, charge, total + charge)
            evidence = Evidence(announced.logged, Logged(entry, b""))
            office.ledger.refuse(submission, rule, charge, office.clock(), evidence)
            _log.warning("refused", rule=rule, request=submission.request_id, charged=charge)
            return
        matches = tuple(
            match_of(hit, rank, self._label(chain, hit), terms.decimals)
            for rank, hit in enumerate(verdict.hits, start=1)
        )
        total += verdict.charge
        release = self._statement(chain, terms, verdict, matches, total)
        entry = self._outcome(announced.intent, verdict.charge, total, release)
        evidence = Evidence(announced.logged, Logged(entry, b""))
        envelope = opening.countersign(release.sign(office.identity))
        office.ledger.finish(submission, envelope, verdict.charge, office.clock(), evidence)
        _log.info(
            "released",
            request=submission.request_id,
            matches=len(matches),
            charged=verdict.charge,
            epoch_total=total,
        )

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
            at=utc_text(self._office.clock()),
        )
        return self._office.logbook.signed(outcome)

    def _deliver(self, stored: Answer, client: str, request_id: str) -> Delivery:
        """Return a stored answer, after logging its outcome should that be missing."""
        if stored.evidence.outcome.receipt:
            return _delivery(stored, request_id)
        with self._lock:
            return self._settled(client, request_id)

    def _settled(self, client: str, request_id: str, *, fresh: bool = False) -> Delivery:
        return _delivery(self._settle(client, request_id, fresh=fresh), request_id)

    def _settle(self, client: str, request_id: str, *, fresh: bool = False) -> Answer:
        """Log the outcome of a stored answer, once, and keep its receipt. Needs the lock.

        Unless the answer is ``fresh``, a crash may have left its entry in the log already.
        """
        office = self._office
        stored = office.ledger.release(client, request_id)
        if stored is None:
            raise Damaged("the request is not answered")
        evidence = stored.evidence
        if evidence.outcome.receipt or not evidence.outcome.entry:
            return stored
        append = office.logbook.append if fresh else office.logbook.append_once
        written = append(evidence.outcome.entry)
        office.ledger.logged(client, request_id, written.logged.receipt, written.checkpoint)
        return Answer(stored.release, stored.rule, Evidence(evidence.intent, written.logged))

    def _statement(
        self,
        chain: Chain,
        terms: Terms,
        verdict: Verdict,
        matches: tuple[Match, ...],
        epoch_total: int,
    ) -> Release:
        office, request = self._office, chain.request
        return Release(
            request_id=request.request_id,
            request_sha256=chain.request_sha256,
            result_sha256=chain.result_sha256,
            policy_sha256=office.policy.sha256,
            key_epoch=office.guardian.keys.epoch,
            client=request.client,
            purpose=request.purpose,
            case_reference=request.case_reference,
            matches=matches,
            compared=verdict.compared,
            threshold=str(terms.threshold),
            noise_std=f"{terms.noise_std:.3g}",
            values_charged=verdict.charge,
            epoch_total=epoch_total,
            released_at=utc_text(office.clock()),
        )

    def _label(self, chain: Chain, hit: Hit) -> str:
        office, gallery = self._office, chain.request.gallery
        template_id = hit.entry.template_id
        sealed = office.mirror.sealed_label(chain.result.server, gallery, template_id)
        try:
            label = open_label(office.label_key, sealed, label_context(gallery, template_id))
            return label.decode()
        except (Damaged, UnicodeDecodeError):
            _log.warning("a sealed label does not open", template=template_id.hex())
            return UNREADABLE


def _delivery(stored: Answer, request_id: str) -> Delivery:
    if stored.release is None:
        raise _uniform(request_id)
    return Delivery(stored.release, stored.evidence)


def _uniform(request_id: str) -> PermissionRefused:
    return PermissionRefused(
        "the auditors refuse this request",
        hint=f"ask the auditors, quoting request id {request_id}",
    )
