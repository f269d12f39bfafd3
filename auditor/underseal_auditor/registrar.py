"""The registrar: takes a submission, has it opened, and answers with a signed release.

    admit     signatures, policy, duplicates: before any ciphertext is read
    answer    catalogue root, blocks, budget; then request and intent are on the books (see
              ``books.py``); then the guardians check the same for themselves, compute the search
              again, and open; then the release is on the books, and only then it is sent

No log entry, no decryption: a log that cannot be written stops everything.
Whatever was opened and is not released is refused in one and the same words.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from underseal_auditor.allotting import shown_hits, weight_of
from underseal_auditor.books import Announced, Books, Delivery, uniform_refusal
from underseal_auditor.drafting import Drafter, Price, statement
from underseal_auditor.feed import CatalogueFeed
from underseal_auditor.guardian import Dossier, Guardian, Opening, UnfitGuardian
from underseal_auditor.guardianship import SESSION_LIFETIME
from underseal_auditor.keys.joint_opening import OpeningFailed
from underseal_auditor.logbook import Logbook
from underseal_auditor.mirror import Mirror
from underseal_auditor.opening import REFUSAL_CHARGE, Verdict, judge
from underseal_auditor.policy.approvals import approving
from underseal_auditor.policy.document import Policy
from underseal_auditor.policy.rulebook import Rulebook
from underseal_auditor.policy.rules import Case, Terms, decide
from underseal_auditor.policy.signed import SignedPolicy
from underseal_auditor.store.frozen import FrozenServers
from underseal_auditor.store.ledger import Ledger
from underseal_auditor.store.pending import PendingStore
from underseal_auditor.store.quotas import Tallies
from underseal_auditor.store.submission import Cost, Submission
from underseal_auditor.store.warrants import WarrantStore
from underseal_auditor.verify.announcement import Authority
from underseal_auditor.verify.catalogue import View
from underseal_auditor.verify.chain import Chain, Intake, client_key, open_chain
from underseal_auditor.verify.fault import Rule, ServerFault
from underseal_auditor.verify.sketch import Sketcher
from underseal_auditor.waiting_room import WaitingRoom
from underseal_auditor.warrants import WarrantDesk
from underseal_core.credentials import Peer
from underseal_core.errors import (
    Busy,
    Conflict,
    Damaged,
    InvalidInput,
    Mismatch,
    NotFound,
    PermissionRefused,
)
from underseal_core.labels import OpeningKey
from underseal_core.log_entries import policy_in_force
from underseal_core.signing import Envelope, Identity
from underseal_core.statements import utc_text

_log: Final = structlog.get_logger("underseal.registrar")

FINAL: Final = (Conflict, Damaged, InvalidInput, Mismatch, PermissionRefused)
"""What a guardian raises when it will never open a submission."""
PASSING: Final = (OpeningFailed, UnfitGuardian)
"""Of these, what leaves a submission as it was: it may be tried again."""
GUARDIAN_RULE: Final = "guardian"


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
class Office:
    """What a registrar works with.

    ``feeds``: the servers' catalogues, by the names in the policy. ``frozen``: those whose word
    counts no more. ``clock`` returns aware times.
    """

    rulebook: Rulebook
    guardian: Guardian
    label_key: OpeningKey
    identity: Identity
    ledger: Ledger
    logbook: Logbook
    mirror: Mirror
    feeds: Mapping[str, CatalogueFeed]
    frozen: FrozenServers
    sketcher: Sketcher
    tallies: Tallies
    pending: PendingStore
    provisional: WarrantStore
    clock: Callable[[], datetime]

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.rulebook.policy


class Registrar:
    """Answers submissions, one at a time."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._books = Books(office.ledger, office.logbook, office.clock)
        self._drafter = Drafter(office.mirror, office.label_key)
        self.waiting = WaitingRoom(office.pending, office.rulebook, office.clock)
        self.warrants = WarrantDesk(
            office.provisional,
            office.rulebook,
            office.logbook,
            office.ledger.keep_log_head,
            office.clock,
        )
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
        self._books.resume(self._office.guardian.keys.epoch)
        self._log_policy()
        self.warrants.sweep()

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
            lifted=signed.policy.document.lifted,
            at=utc_text(office.clock()),
        )
        office.logbook.put_in_force(entry)
        office.ledger.keep_log_head(office.logbook.log.checkpoint)

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
            purpose=chain.request.purpose,
        )
        self.warrants.sweep()
        stored = self._books.stored(submission)
        if stored is not None:
            return stored
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
        ServerFault
            The server signed something that is not true: nothing is opened, it is frozen.
        Damaged, Mismatch, Busy
            The server's catalogue contradicts itself, or is out of reach.
        Conflict
            A ciphertext was opened before.
        StorageFull, Damaged
            The log cannot be written: nothing is opened, or nothing is sent.
        Waiting
            Persons have to approve it first: it is kept until they have.
        UndersealError
            What a guardian refused it with. After Busy the same submission may be tried again.
        """
        office, submission = self._office, admission.submission
        sealed = admission.intake.complete()
        with self._lock:
            if office.policy is not admission.policy:
                raise Busy("the policy has just changed", hint="submit again")
            stored = self._books.stored(submission)
            if stored is not None:
                return stored
            chain = admission.intake.chain
            terms = self._terms(chain, submission, admission.now)
            with self._alarmed(chain):
                view = self._view(chain)
            both = (admission.request, admission.result)
            envelopes = self.waiting.approvals(submission, chain, both, sealed)
            office.guardian.check_ready()
            approvers = approving(office.policy.document, chain, envelopes, office.clock())
            authority = Authority(office.policy.sha256, submission.key_epoch, approvers)
            announced = self._books.announce(submission, sealed.openings(), chain, authority)
            with self._refused_by_guardian(announced), self._alarmed(chain):
                dossier = Dossier(
                    admission.request, admission.result, chain, sealed, announced.logged, envelopes
                )
                opening = office.guardian.begin(dossier)
                verdict = judge(opening, sealed, view, chain.request, terms, office.sketcher)
            try:
                return self._conclude(chain, terms, verdict, announced, opening)
            finally:
                self.waiting.forget(submission)

    def release(self, peer: Peer, request_id: str) -> Delivery:
        """Return the stored release of one of ``peer``'s requests; open it now if it waited.

        Raises
        ------
        NotFound
            Never answered, and it does not wait.
        Waiting
            It still does.
        PermissionRefused
            It was refused, or the policy does not name this client with this key.
        """
        client_key(self._office.policy.document, peer)
        self.warrants.sweep()
        stored = self._books.delivered(peer.name, request_id)
        if stored is not None:
            return stored
        pending = self.waiting.find(peer.name, request_id)
        if pending is None:
            raise NotFound(
                "no release of this request is stored",
                hint="check the id: only your own requests' releases can be read",
            )
        admitted = self.admit(peer, pending.request, pending.result)
        if isinstance(admitted, Delivery):
            return admitted
        for place, data in self._office.pending.sealed(peer.name, request_id).items():
            admitted.intake.take(place.kind, place.block, data)
        return self.answer(admitted)

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
        office.frozen.check(self._server_key(result.server))
        feed = office.feeds.get(result.server)
        if feed is None:
            raise PermissionRefused(
                "the registrar does not know where this server is", hint="ask the auditors"
            )
        pin = feed.pin(request.gallery)
        if pin != request.pin:
            raise Mismatch("the gallery is pinned to another model, profile or key epoch")
        enrollers = office.policy.document.enrollers(request.gallery)
        office.mirror.update(result.server, request.gallery, feed, pin, enrollers)
        try:
            view = office.mirror.view(result.server, result.snapshot)
        except Damaged as error:
            raise ServerFault(Rule.CATALOGUE) from error
        blocks = tuple(b.block for b in result.blocks)
        if (blocks, result.compared) != view.expected(request.targets):
            raise ServerFault(Rule.BLOCKS)
        # Also what will be over before the guardians have signed: they would refuse all of it.
        horizon = utc_text(office.clock() + SESSION_LIFETIME)
        overdue = office.mirror.overdue(result.server, request.gallery, horizon)
        if overdue:
            _log.warning("templates are past their time", gallery=request.gallery, n=len(overdue))
        view = view.without(overdue)
        if request.probe_template:
            view.current(request.own_template)
        return view

    @contextmanager
    def _alarmed(self, chain: Chain) -> Iterator[None]:
        """Freeze a server that is caught, and say so in the log, once."""
        try:
            yield
        except ServerFault as fault:
            office, name = self._office, chain.result.server
            if fault.rule is not Rule.FROZEN:
                _log.error("server frozen", server=name, rule=fault.rule.value)
                key, now = self._server_key(name), office.clock()
                office.frozen.freeze(name, key, fault.rule, chain.request_sha256, now)
                self._books.alarm(chain, fault.rule.value, office.guardian.keys.epoch)
            raise

    def _server_key(self, name: str) -> bytes:
        return bytes.fromhex(self._office.policy.document.servers[name].key)

    @contextmanager
    def _refused_by_guardian(self, announced: Announced) -> Iterator[None]:
        """Turn a guardian's refusal into the answer; what it says depends on nothing opened."""
        try:
            yield
        except PASSING:
            raise
        except FINAL as error:
            _log.warning("a guardian refused", reason=error.public)
            self._books.refuse(announced, GUARDIAN_RULE, Cost(0))
            raise

    def _conclude(
        self, chain: Chain, terms: Terms, verdict: Verdict, announced: Announced, opening: Opening
    ) -> Delivery:
        """Put the answer and its charge on the books."""
        office, submission = self._office, announced.submission
        gallery = chain.request.gallery
        total = office.ledger.epoch_total(submission.key_epoch)
        left = office.policy.document.release.budget - total
        weight = weight_of(office.tallies, submission, gallery, verdict, terms)
        charge = weight * verdict.charge
        cost = Cost(min(max(charge, REFUSAL_CHARGE), left), weight)
        if verdict.rule or charge > left:
            raise self._refuse(announced, verdict.rule or "budget-overrun", cost)
        shown = shown_hits(office.tallies, submission, gallery, verdict, terms, weight)
        if shown is None:
            raise self._refuse(announced, "subject-quota", cost)
        matches, origins = self._drafter.matches(chain, shown, terms)
        price = Price(charge, weight, total + charge)
        release = statement(chain, terms, verdict, matches, announced.intent, price, office.clock())
        try:
            envelope = opening.countersign(release.sign(office.identity))
        except PermissionRefused as error:
            raise self._refuse(announced, GUARDIAN_RULE, cost) from error
        delivery = self._books.release(announced, envelope, release, origins)
        _log.info(
            "released",
            request=release.request_id,
            matches=len(matches),
            charged=release.values_charged,
            epoch_total=release.epoch_total,
        )
        return delivery

    def _refuse(self, announced: Announced, rule: str, cost: Cost) -> PermissionRefused:
        request_id = announced.submission.request_id
        _log.warning("refused", rule=rule, request=request_id, charged=cost.charge)
        self._books.refuse(announced, rule, cost)
        return uniform_refusal(request_id)
