"""A guardian with one of n shares: it checks a submission for itself, and opens its part of it.

    begin         signatures under the guardian's own policy, its rules, its budget; the intent in
                  the log, which only grew; then the ciphertexts, each against the signed
                  statements, and all of them computed again on this guardian's own replica
    commit        the registrar gets a signed commitment to encryptions of zero
    reveal, take  given everybody's commitments; then everybody's encryptions of zero
    tests         probe and new units hold nothing where they must be empty: see ``zero_tests.py``
    answer        the docket takes request and ciphertexts for good; then the answer is made
    countersign   a release that is of this opening, charges no less than it shows, and shows
                  templates only that are live and that an enroller signed for

The registrar carries all messages and is trusted with none of the checks.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from underseal_auditor.countersigning import check_release, guardians_release, parse_release
from underseal_auditor.examination import Examiner
from underseal_auditor.keys.joint_opening import (
    MemberOpening,
    Occasion,
    ZeroCommitment,
    zeros_size,
)
from underseal_auditor.keys.share import Share
from underseal_auditor.log_memory import LogMemory
from underseal_auditor.policy.approvals import approving
from underseal_auditor.policy.check_budget import CHECK_NOISE
from underseal_auditor.policy.document import Policy
from underseal_auditor.policy.rulebook import Rulebook
from underseal_auditor.policy.rules import Case, Terms, decide, guardian_part, key_facts
from underseal_auditor.store.docket import Docket
from underseal_auditor.store.ledger import Ledger
from underseal_auditor.store.quotas import Tallies
from underseal_auditor.store.submission import Submission, cost_of
from underseal_auditor.store.tested import Opened
from underseal_auditor.verify.announcement import Authority, Notice
from underseal_auditor.verify.chain import Chain, Intake, Place, Sealed, open_chain
from underseal_auditor.zero_session import Circle, ZeroSession
from underseal_core.bundle import PublicBundle
from underseal_core.credentials import Peer, Role
from underseal_core.errors import (
    Damaged,
    InvalidInput,
    Mismatch,
    NotFound,
    PermissionRefused,
)
from underseal_core.roster import Roster
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.fields import pack_residues
from underseal_core.signing import Envelope, Identity, Signature
from underseal_core.statements import Release, SearchRequest

_log: Final = structlog.get_logger("underseal.guardian")

MAX_SESSIONS: Final = 4
"""Openings under way; each holds its ciphertexts in memory. The oldest gives way to a new one: a
registrar opens one at a time, so it was refused or abandoned."""
SESSION_LIFETIME: Final = timedelta(minutes=10)
MAX_CIPHERTEXTS: Final = 256
"""Of one opening: two million templates."""
_SUBJECT_DOMAIN: Final = b"underseal/v1/opening-subject\x00"


def opening_subject(chain: Chain) -> bytes:
    """Return the 32 bytes that name what is opened."""
    hashes = bytes.fromhex(chain.request_sha256) + bytes.fromhex(chain.result_sha256)
    return hashlib.sha256(_SUBJECT_DOMAIN + hashes).digest()


def opening_order(sealed: Sealed) -> dict[Place, Ciphertext]:
    """Return what is opened, in the order that all members use: norm, blocks."""
    results = {Place(Kind.RESULT, block): sealed.results[block] for block in sorted(sealed.results)}
    return {Place(Kind.NORM, 0): sealed.norm, **results}


@dataclass(frozen=True, slots=True)
class Watch:
    """What a guardian works with.

    ``roster``: who holds the shares of the bundle's key; the share is of its generation.
    ``examiner``: computes again what servers computed. ``log``: what it has seen of the
    registrar's log. ``clock`` returns aware times.
    """

    rulebook: Rulebook
    bundle: PublicBundle
    roster: Roster
    share: Share
    identity: Identity
    examiner: Examiner
    ledger: Ledger
    docket: Docket
    tallies: Tallies
    log: LogMemory
    clock: Callable[[], datetime]

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.rulebook.policy


@dataclass(frozen=True, slots=True)
class Summons:
    """What a registrar asks a guardian to open, with whom, and that it has announced it.

    ``approvals``: what persons signed, if the policy asks for any.
    ``generation``: which sharing of the key opens, by its hash; see :class:`Generation`.
    """

    request: Envelope
    result: Envelope
    active: tuple[int, ...]
    notice: Notice
    generation: str
    approvals: tuple[Envelope, ...] = ()


@dataclass(frozen=True, slots=True)
class Beginning:
    """A submission that may send its ciphertexts to this guardian, under this policy."""

    policy: Policy
    approvers: tuple[str, ...]
    intake: Intake
    active: tuple[int, ...]
    terms: Terms


@dataclass(frozen=True, slots=True)
class Begun:
    """A session's name, this guardian's commitment to its encryptions of zero, and what to test.

    ``untested``: tokens of units that this guardian has not found sound.
    """

    session: bytes
    commitment: ZeroCommitment
    untested: frozenset[bytes]


@dataclass(slots=True)
class Session:
    """One opening under way, to its end under the policy that it began with."""

    policy: Policy
    approvers: tuple[str, ...]
    submission: Submission
    chain: Chain
    terms: Terms
    sealed: Sealed
    places: tuple[Place, ...]
    opening: MemberOpening
    tests: ZeroSession
    began: datetime
    taken: bool = field(default=False)


class GuardianDesk:
    """Serves a registrar's openings, with this guardian's share. Thread-safe."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._lock = threading.Lock()
        self._sessions: dict[bytes, Session] = {}

    @property
    def bundle(self) -> PublicBundle:
        """The key epoch that the share is of."""
        return self._watch.bundle

    @property
    def roster(self) -> Roster:
        """Who holds the key's shares, of the generation that this guardian's is of."""
        return self._watch.roster

    @property
    def point(self) -> int:
        """This guardian's point."""
        return self._watch.share.point

    @property
    def policy_sha256(self) -> str:
        """Names the policy in force here."""
        return self._watch.policy.sha256

    @property
    def log_size(self) -> int:
        """Entries of the registrar's log as this guardian last saw it."""
        return self._watch.log.size

    def begin(self, summons: Summons) -> Beginning:
        """Check a submission's statements under this guardian's own policy, and its intent.

        Raises
        ------
        PermissionRefused, InvalidInput, Mismatch
            See ``open_chain`` and ``decide``; shares of another generation are to open.
        Conflict
            The request was answered before.
        Damaged, PermissionRefused
            The opening was not announced in the log, or the log was rolled back or forked.
        """
        watch, policy = self._watch, self._watch.policy
        active, now = summons.active, watch.clock()
        self._check_generation(summons.generation)
        client = _client(policy, summons.request)
        chain = open_chain(policy.document, client, summons.request, summons.result, now)
        watch.docket.check_new(self._submission(chain))
        if chain.openings > MAX_CIPHERTEXTS:
            raise InvalidInput("the result has more blocks than guardians open at a time")
        occasion = Occasion(watch.bundle, watch.roster, opening_subject(chain), active)
        if self.point not in occasion.active:
            raise InvalidInput(f"member {self.point} is not active in this opening")
        approvers = approving(policy.document, chain, summons.approvals, now)
        terms = self._terms(policy, chain, approvers, now)
        authority = Authority(policy.sha256, watch.bundle.epoch, approvers)
        watch.log.accept(summons.notice, chain, authority)
        intake = Intake(chain, policy.profile)
        return Beginning(policy, approvers, intake, active, terms)

    def commit(self, beginning: Beginning) -> Begun:
        """Begin a session, given all ciphertexts.

        Raises
        ------
        InvalidInput
            A ciphertext is missing.
        ServerFault
            The server did not compute what it signed; see :class:`Examiner`.
        """
        watch, chain = self._watch, beginning.intake.chain
        sealed = beginning.intake.complete()
        probe = watch.examiner.examine(chain, sealed, beginning.policy)
        subject = opening_subject(chain)
        occasion = Occasion(watch.bundle, watch.roster, subject, beginning.active)
        order = opening_order(sealed)
        opening = MemberOpening(watch.share, watch.identity, occasion, tuple(order.values()))
        circle = Circle(occasion.digest(), occasion.active, len(watch.bundle.members))
        tests = ZeroSession(watch.examiner.tester, watch.share, circle, chain, probe)
        now = watch.clock()
        session = Session(
            beginning.policy,
            beginning.approvers,
            self._submission(chain),
            chain,
            beginning.terms,
            sealed,
            tuple(order),
            opening,
            tests,
            now,
        )
        name = secrets.token_bytes(16)
        with self._lock:
            stale = [n for n, s in self._sessions.items() if now - s.began > SESSION_LIFETIME]
            for old in stale:
                del self._sessions[old]
            while len(self._sessions) >= MAX_SESSIONS:
                del self._sessions[min(self._sessions, key=lambda n: self._sessions[n].began)]
            self._sessions[name] = session
        return Begun(name, opening.commitment, tests.untested)

    def reveal(self, session: bytes, commitments: Sequence[ZeroCommitment]) -> bytes:
        """Return this guardian's salt and encryptions of zero; see :class:`MemberOpening`."""
        with self._lock:
            return self._session(session).opening.reveal(commitments)

    def zeros_size(self, session: bytes) -> int:
        """Exact number of bytes of each guardian's salt and encryptions of zero."""
        with self._lock:
            found = self._session(session)
            order = opening_order(found.sealed)
        return zeros_size(self._watch.bundle.profile, tuple(order.values()))

    def take(
        self, session: bytes, revealed: Mapping[int, bytes], untested: frozenset[bytes]
    ) -> bytes:
        """Take in the others' encryptions of zero, and commit to the answers to the zero tests.

        See :class:`MemberOpening` and :class:`ZeroSession`.
        """
        with self._lock:
            found = self._session(session)
            found.opening.take(revealed)
            return found.tests.prepare(found.opening.salts, untested)

    def reveal_tests(self, session: bytes, commitments: Mapping[int, bytes]) -> bytes:
        """Return this guardian's answers to the zero tests; see :class:`ZeroSession`."""
        with self._lock:
            return self._session(session).tests.reveal(commitments)

    def conclude_tests(self, session: bytes, answers: Mapping[int, bytes]) -> None:
        """Judge the zero tests; see :class:`ZeroSession`."""
        with self._lock:
            self._session(session).tests.conclude(answers)

    def answer(self, session: bytes, place: Place) -> bytes:
        """Return this guardian's answer to one ciphertext, ``uint32`` little-endian.

        Raises
        ------
        Conflict
            The request or one of its ciphertexts was answered before, in any opening.
        """
        watch = self._watch
        with self._lock:
            found = self._session(session)
            if place not in found.places:
                raise InvalidInput("the opening has no such ciphertext")
            found.tests.check_sound()
            if not found.taken:
                now = watch.clock()
                self._terms(found.policy, found.chain, found.approvers, now)
                advance = found.terms.max_positives + found.terms.max_near
                watch.docket.take(found.submission, found.sealed.openings(), advance, now)
                found.taken = True
                _log.info("opening", request=found.submission.request_id)
            index = found.places.index(place)
            noise = found.terms.noise_std if place.kind is Kind.RESULT else CHECK_NOISE
            answer = found.opening.answer(index, noise)
            return pack_residues(watch.bundle.profile, [answer])

    def countersign(self, session: bytes, envelope: Envelope) -> Signature:
        """Sign a release of this opening, and take note of its charge. Ends the session.

        Raises
        ------
        PermissionRefused
            The release is not of this opening, or shows more than the policy allows or it charges;
            or a template that is not enrolled.
        """
        watch = self._watch
        with self._lock:
            found = self._session(session)
            if not found.taken:
                raise InvalidInput("nothing of this opening was answered")
            release = parse_release(envelope)
            check_release(release, found, watch, SESSION_LIFETIME)
            watch.examiner.check_release(found.chain, release, found.policy)
            cost = cost_of(release, found.chain.request.gallery)
            watch.docket.settle(found.submission, envelope, cost, watch.clock())
            del self._sessions[session]
        signed = watch.identity.sign(Release.payload_type, envelope.payload)
        return signed.signatures[0]

    @property
    def abandoned(self) -> list[tuple[str, str]]:
        """Client and id of requests whose zero tests this guardian did not see to their end."""
        return self._watch.examiner.tested.abandoned()

    def take_release(self, envelope: Envelope) -> None:
        """Take k guardians' word for it that a request's zero tests were passed.

        One of them is honest, and signed for nothing that it had not found sound. The signed
        request names the probe, and the result's snapshot the units. Raises what
        :func:`guardians_release` raises.
        """
        watch = self._watch
        release = guardians_release(envelope, watch.roster, watch.bundle.epoch)
        opened = Opened(
            release.client, release.request_id, release.request_sha256, release.result_sha256
        )
        watch.examiner.tested.proven(opened)

    def _check_generation(self, generation: str) -> None:
        own = self._watch.roster.generation
        if generation != own.sha256:
            raise Mismatch(
                f"this guardian's share is of generation {own.number}, not of the one to open",
                hint="start registrar and guardians with the same successions",
            )

    def _session(self, name: bytes) -> Session:
        found = self._sessions.get(name)
        if found is None or self._watch.clock() - found.began > SESSION_LIFETIME:
            raise NotFound("this guardian has no such opening", hint="submit again")
        return found

    def _submission(self, chain: Chain) -> Submission:
        return Submission(
            client=chain.request.client,
            request_id=chain.request.request_id,
            request_sha256=chain.request_sha256,
            result_sha256=chain.result_sha256,
            key_epoch=self._watch.bundle.epoch,
            purpose=chain.request.purpose,
        )

    def _terms(
        self, policy: Policy, chain: Chain, approvers: tuple[str, ...], now: datetime
    ) -> Terms:
        watch, bundle = self._watch, self._watch.bundle
        case = Case(
            request=chain.request,
            keys=key_facts(bundle),
            templates=chain.result.snapshot.templates,
            record=watch.ledger.record(self._submission(chain), now),
            now=now,
            server=chain.result.server,
            approvers=approvers,
            part=guardian_part(bundle),
        )
        decision = decide(policy, case)
        if decision.terms is None:
            _log.warning("refused", rule=decision.rule, request=chain.request.request_id)
            raise decision.refusal or PermissionRefused("the policy does not allow this")
        return decision.terms


def _client(policy: Policy, request: Envelope) -> Peer:
    """Return the client that the request names, with the key of this guardian's policy."""
    try:
        name = SearchRequest.parse(request.payload).client
    except Damaged as error:
        raise InvalidInput(f"the request is not usable: {error.public}") from error
    section = policy.document.clients.get(name)
    if section is None:
        raise PermissionRefused("the policy does not name this client", hint="ask the auditors")
    return Peer(Role.CLIENT, name, bytes.fromhex(section.key))
