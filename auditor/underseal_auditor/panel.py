"""k of n guardians elsewhere, as one :class:`underseal_auditor.guardian.Guardian`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import inf
from typing import Final, Protocol, TypeVar

import structlog

from underseal_auditor.guardian import Dossier, Opening, UnfitGuardian
from underseal_auditor.guardianship import Begun, opening_order, opening_subject
from underseal_auditor.keys.decryption import combine
from underseal_auditor.keys.joint_opening import (
    Occasion,
    OpeningFailed,
    ZeroCommitment,
    check_commitments,
    mask_all,
    parse_answer,
    zeros_size,
)
from underseal_auditor.policy.rules import key_facts
from underseal_auditor.verify.chain import Place
from underseal_auditor.verify.fault import ServerFault
from underseal_core.bundle import PublicBundle
from underseal_core.errors import Busy, Damaged, InvalidInput, UndersealError
from underseal_core.log_entries import Logged
from underseal_core.roster import Roster
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.scheme.encoding import Real
from underseal_core.signing import (
    Envelope,
    Signature,
    pre_authentication_encoding,
    verify_bytes,
)

_log: Final = structlog.get_logger("underseal.registrar")

T = TypeVar("T")

AVOIDED_SECONDS: Final = 600.0
RECONNECT_SECONDS: Final = 1.5
"""gRPC waits up to a second before it connects again: a guardian that was just started again is
there by then."""


@dataclass(frozen=True, slots=True)
class GuardianFacts:
    """What a guardian says about itself.

    ``log_size``: entries of the registrar's log as it last saw it, 0 if never. ``generation``:
    which sharing of the key its share is of, by its hash. ``abandoned``: client and id of requests
    whose zero tests it did not see to their end.
    """

    point: int
    key_epoch: str
    policy_sha256: str
    log_size: int
    generation: str
    abandoned: tuple[tuple[str, str], ...] = ()


Prover = Callable[[Logged, int], tuple[bytes, ...]]
"""Proves that the checkpoint of a receipt extends the log's tree of so many leaves."""
Archive = Callable[[str, str], Envelope | None]
"""Returns the stored release of a client's request, if there is one."""


class GuardianLink(Protocol):
    """A guardian elsewhere; the methods are those of ``GuardianDesk``, and raise what it raises.

    Busy also means that it cannot be reached.
    """

    def facts(self) -> GuardianFacts:
        """Return who it is."""
        ...

    def commit(
        self,
        dossier: Dossier,
        active: tuple[int, ...],
        extends: tuple[bytes, ...],
        generation: str,
    ) -> Begun:
        """Begin, and send every ciphertext.

        ``extends``: proof that the log of the dossier's intent extends the one it has seen;
        ``generation``: which sharing of the key opens.
        """
        ...

    def reveal(self, session: bytes, commitments: tuple[ZeroCommitment, ...], size: int) -> bytes:
        """Return its salt and encryptions of zero, ``size`` bytes."""
        ...

    def take(
        self, session: bytes, revealed: Mapping[int, bytes], untested: frozenset[bytes]
    ) -> bytes:
        """Give it the others' encryptions of zero; return its commitment to the zero tests."""
        ...

    def reveal_tests(self, session: bytes, commitments: Mapping[int, bytes]) -> bytes:
        """Return its answers to the zero tests."""
        ...

    def conclude_tests(self, session: bytes, answers: Mapping[int, bytes]) -> None:
        """Give it everybody's answers, by which it judges for itself."""
        ...

    def answer(self, session: bytes, place: Place) -> bytes:
        """Return its answer to one ciphertext."""
        ...

    def countersign(self, session: bytes, release: Envelope) -> Signature:
        """Return its signature of a release."""
        ...

    def take_release(self, release: Envelope) -> None:
        """Show it that k guardians found sound what it tested, and did not conclude."""
        ...


class Panel:
    """All guardians of a key epoch, by point; each opening uses the first k that can be reached.

    One that failed in the middle of an opening comes last for some time: it may answer that it is
    there and nothing else.

    Parameters
    ----------
    roster
        Who holds the shares of the bundle's key now. Guardians with shares of another generation
        are left out, as those out of reach are.
    policy_sha256
        Returns what the registrar has in force: guardians must have the same.
    prove
        Proves to each guardian that the log still holds all that it has seen.
    archive
        By which guardians learn that zero tests were passed without them.

    Raises
    ------
    InvalidInput
        Fewer guardians than the threshold, or a point that is no member's.
    """

    def __init__(
        self,
        bundle: PublicBundle,
        roster: Roster,
        policy_sha256: Callable[[], str],
        links: Mapping[int, GuardianLink],
        prove: Prover,
        archive: Archive,
    ) -> None:
        points = set(links)
        if len(points) < roster.threshold or not points <= set(range(1, len(roster.members) + 1)):
            raise InvalidInput(
                f"the addresses of at least {roster.threshold} guardians are needed",
                hint=f"points run from 1 to {len(roster.members)}",
            )
        self._bundle = bundle
        self._roster = roster
        self._policy_sha256 = policy_sha256
        self._links = dict(sorted(links.items()))
        self._prove = prove
        self._archive = archive
        self._failed_at: dict[int, float] = {}
        self._threads = ThreadPoolExecutor(len(links), thread_name_prefix="guardians")
        self.keys = key_facts(bundle)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()

    def check_ready(self) -> None:
        """See :class:`Guardian`; raises Busy or UnfitGuardian."""
        self._choose()

    def begin(self, dossier: Dossier) -> Opening:
        """See :class:`Guardian`.

        Raises
        ------
        Busy
            Fewer than k guardians can be reached.
        UnfitGuardian
            One has another policy or other keys, or has seen more of the log than there is.
        OpeningFailed
            One sent something wrong.
        UndersealError
            What one of them refused the submission with.
        """
        chosen = self._choose()
        for facts in chosen.values():
            self._vouch(facts)
        occasion = Occasion(
            self._bundle, self._roster, opening_subject(dossier.chain), tuple(chosen)
        )
        members = {
            point: Member(self._links[point], self._extends(dossier.intent, facts))
            for point, facts in chosen.items()
        }
        return JointOpening(occasion, dossier, members, self._threads, self._failed)

    def _vouch(self, facts: GuardianFacts) -> None:
        """Show a guardian what came of requests whose tests it did not see to their end."""
        for client, request_id in facts.abandoned:
            release = self._archive(client, request_id)
            if release is None:
                continue
            try:
                self._links[facts.point].take_release(release)
            except UndersealError as error:
                _log.warning("release not taken", point=facts.point, reason=error.public)

    def _failed(self, point: int) -> None:
        _log.warning("guardian failed in an opening", point=point)
        self._failed_at[point] = time.monotonic()

    def _avoided(self, point: int) -> bool:
        return time.monotonic() - self._failed_at.get(point, -inf) < AVOIDED_SECONDS

    def _extends(self, intent: Logged, facts: GuardianFacts) -> tuple[bytes, ...]:
        try:
            return self._prove(intent, facts.log_size)
        except Damaged as error:
            raise UnfitGuardian(
                f"guardian {facts.point} has seen more of the log than there is", hint=error.hint
            ) from error

    def _choose(self) -> dict[int, GuardianFacts]:
        """Return k points whose guardians answer, ascending."""
        needed = self._bundle.threshold
        there = self._reachable()
        if len(there) < needed:
            time.sleep(RECONNECT_SECONDS)
            there = self._reachable()
        if len(there) < needed:
            raise Busy(
                f"too few guardians can be reached: {len(there)} of the {needed} that are needed",
                hint="search again later; if it stays so, tell the auditors",
                retry_after_ms=2000,
            )
        chosen = sorted(there, key=lambda point: (self._avoided(point), point))[:needed]
        return {point: there[point] for point in sorted(chosen)}

    def _reachable(self) -> dict[int, GuardianFacts]:
        asked = {point: self._threads.submit(link.facts) for point, link in self._links.items()}
        there = {}
        for point, answer in asked.items():
            try:
                facts = answer.result()
            except Busy:
                _log.warning("guardian out of reach", point=point)
                continue
            except UndersealError as error:
                text = f"guardian {point} does not serve this registrar: {error.public}"
                raise UnfitGuardian(text, hint=error.hint) from error
            if (facts.point, facts.key_epoch) != (point, self._bundle.epoch):
                raise UnfitGuardian(f"at the address of guardian {point} is another one")
            if facts.generation != self._roster.generation.sha256:
                _log.warning("guardian with a share of another generation", point=point)
                continue
            if facts.policy_sha256 != self._policy_sha256():
                raise UnfitGuardian(f"guardian {point} has another policy", hint="ask the auditors")
            there[point] = facts
        return there


@dataclass(frozen=True, slots=True)
class Member:
    """An active guardian, and the proof that the log extends what it has seen."""

    link: GuardianLink
    extends: tuple[bytes, ...]


class JointOpening:
    """One submission's opening by the guardians of an active set."""

    def __init__(
        self,
        occasion: Occasion,
        dossier: Dossier,
        members: Mapping[int, Member],
        threads: ThreadPoolExecutor,
        failed: Callable[[int], None],
    ) -> None:
        self._failed = failed
        self._occasion = occasion
        self._links = {point: member.link for point, member in members.items()}
        self._threads = threads
        self._order = opening_order(dossier.sealed)
        generation = occasion.roster.generation.sha256
        begun = self._each(
            lambda p: self._links[p].commit(
                dossier, occasion.active, members[p].extends, generation
            )
        )
        self._sessions = {point: one.session for point, one in begun.items()}
        commitments = tuple(begun[point].commitment for point in occasion.active)
        check_commitments(occasion, commitments)
        ciphertexts = tuple(self._order.values())
        size = zeros_size(occasion.bundle.profile, ciphertexts)
        zeros = self._each(lambda p: self._links[p].reveal(self._sessions[p], commitments, size))
        masked = mask_all(occasion, ciphertexts, commitments, zeros)
        self._masked = dict(zip(self._order, masked, strict=True))
        untested = frozenset().union(*(one.untested for one in begun.values()))
        tests = self._each(lambda point: self._give(point, zeros, untested))
        answers = self._each(lambda p: self._links[p].reveal_tests(self._sessions[p], tests))
        self._each(lambda p: self._links[p].conclude_tests(self._sessions[p], answers))

    def open(self, ciphertext: Ciphertext, noise_std: float) -> Real:
        """See :class:`Opening`; the noise is that of the guardians' own policy.

        Raises
        ------
        OpeningFailed
            An answer is malformed.
        Conflict
            A guardian answered the request or the ciphertext before.
        """
        place = self._place(ciphertext)
        masked = self._masked[place]
        data = self._each(lambda point: self._links[point].answer(self._sessions[point], place))
        partials = []
        for point, answer in data.items():
            try:
                partials.append(parse_answer(answer, masked))
            except InvalidInput as error:
                raise OpeningFailed(f"the answer of guardian {point} is malformed") from error
        return combine(masked, partials, self._occasion.bundle.dimension)

    def countersign(self, release: Envelope) -> Envelope:
        """See :class:`Opening`; adds the signatures of all k guardians.

        Raises
        ------
        OpeningFailed
            A guardian's signature is wrong.
        """
        made = self._each(
            lambda point: self._links[point].countersign(self._sessions[point], release)
        )
        message = pre_authentication_encoding(release.payload_type, release.payload)
        signatures = list(release.signatures)
        for point, signature in made.items():
            key = self._occasion.roster.members[point - 1]
            sound = signature.public_key == key and verify_bytes(key, signature.signature, message)
            if not sound:
                raise OpeningFailed(f"the signature of guardian {point} is wrong")
            if signature not in signatures:
                signatures.append(signature)
        return replace(release, signatures=tuple(signatures))

    def _place(self, ciphertext: Ciphertext) -> Place:
        for place, own in self._order.items():
            if own is ciphertext:
                return place
        raise InvalidInput("the ciphertext is not of this opening")

    def _give(self, point: int, zeros: Mapping[int, bytes], untested: frozenset[bytes]) -> bytes:
        others = {other: data for other, data in zeros.items() if other != point}
        return self._links[point].take(self._sessions[point], others, untested)

    def _each(self, call: Callable[[int], T]) -> dict[int, T]:
        """Call for every active point at once; a failure is raised after all ended.

        Of several, a caught server comes first: it is to be frozen.
        """
        asked = {point: self._threads.submit(call, point) for point in self._occasion.active}
        failures = {p: error for p, f in asked.items() if (error := f.exception()) is not None}
        for point, error in failures.items():
            if isinstance(error, Busy):
                self._failed(point)
        if failures:
            raise min(failures.values(), key=lambda error: not isinstance(error, ServerFault))
        return {point: answer.result() for point, answer in asked.items()}
