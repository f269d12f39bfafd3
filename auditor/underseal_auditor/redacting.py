"""A guardian's part in taking removed templates out of a unit (docs/explanation/keys.md).

    begin         what is to be erased is removed in this guardian's own catalogue; the unit is as
                  it is in its own replica
    test          of the unit, unless all have found it sound before
    contribute    this guardian's part of the new ciphertexts
    take          the new ciphertexts, as the registrar put them together
    test          of the difference
    sign          the amendment that names them

The registrar carries all messages and is trusted with none of the checks.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from underseal_auditor.keys.joint_opening import OpeningOutOfTurn
from underseal_auditor.keys.redaction import added_encryptions, contributions, most_encryptions
from underseal_auditor.keys.share import Share
from underseal_auditor.policy.rulebook import Rulebook
from underseal_auditor.redaction_round import Panelists, Round
from underseal_auditor.replica import Replica
from underseal_auditor.store.tested import SoundUnits, Suspect, Trial, unit_digest
from underseal_auditor.zero_tests import GALLERY_TEXT, KINDS, Malformed
from underseal_core.amendment import Amendment, write_places
from underseal_core.bundle import PublicBundle
from underseal_core.errors import InvalidInput, Mismatch, NotFound, PermissionRefused
from underseal_core.gallery.unit import Mask, Redaction, Shape, Unit, coefficients
from underseal_core.roster import Roster
from underseal_core.scheme.ciphertext import Ciphertext, parse_ciphertext
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.redaction import redaction_test
from underseal_core.scheme.zero_test import Claim, ZeroTest, zero_test
from underseal_core.signing import Identity, Signature
from underseal_core.statements import Pin, utc_moment

_log: Final = structlog.get_logger("underseal.redaction")

SESSION_LIFETIME: Final = timedelta(minutes=30)
CLOCK_SKEW: Final = timedelta(minutes=5)
SPOILT_TEXT: Final = "the new ciphertexts are not the old ones without what was removed"
_OCCASION_DOMAIN: Final = b"underseal/v1/redaction\x00"


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be redacted, and by whom.

    ``erased``: all places that hold nothing afterwards. ``old_sha256``: 32 bytes, of the unit as it
    is. ``active``: points, ascending. ``generation``: which sharing of the key.
    """

    server: str
    gallery: str
    token: bytes
    erased: tuple[int, ...]
    old_sha256: bytes
    active: tuple[int, ...]
    generation: str

    def digest(self) -> bytes:
        """Return the hash of everything."""
        names = f"{self.server}\x00{self.gallery}\x00{self.generation}\x00".encode()
        places = write_places(self.erased).encode()
        head = bytes((len(self.active), *self.active)) + self.token + self.old_sha256
        return hashlib.sha256(_OCCASION_DOMAIN + head + names + places).digest()


@dataclass(frozen=True, slots=True)
class Admitted:
    """A guardian's answer to an errand: its session, and its commitments to two salts.

    ``sound``: it has tested the unit before.
    """

    session: bytes
    unit_salt: bytes
    difference_salt: bytes
    sound: bool


@dataclass(frozen=True, slots=True)
class Bench:
    """What a guardian works with. ``clock`` returns aware times."""

    bundle: PublicBundle
    roster: Roster
    share: Share
    identity: Identity
    replica: Replica
    evaluator: Evaluator
    record: SoundUnits
    rulebook: Rulebook
    clock: Callable[[], datetime]


@dataclass(slots=True)
class _Session:
    errand: Errand
    pin: Pin
    unit: Unit
    enrolled_sha256: str
    held: Mask
    began: datetime
    unit_round: Round
    difference_round: Round
    sound: bool
    new: list[bytes] = field(default_factory=list)
    new_sha256: str = ""
    verified: bool = False

    @property
    def round(self) -> Round:
        return self.difference_round if self.new_sha256 else self.unit_round

    @property
    def trial(self) -> Trial:
        """The test that is due: enrollers answer for the unit, auditors for the difference."""
        gallery, erasure = suspects_of(self.errand)
        if self.new_sha256:
            return Trial(erasure, frozenset((bytes.fromhex(self.new_sha256),)))
        return Trial(gallery, frozenset((unit_digest(self.unit),)))


def suspects_of(errand: Errand) -> tuple[Suspect, Suspect]:
    """Return who answers for the test of the unit, and for that of the difference."""
    name = f"{errand.server}/{errand.gallery}"
    return Suspect("gallery", name), Suspect("erasure", name)


class RedactionDesk:
    """Serves a registrar's redactions with one share, one at a time. Thread-safe."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._lock = threading.Lock()
        self._sessions: dict[bytes, _Session] = {}

    @property
    def bundle(self) -> PublicBundle:
        """The key epoch that the share is of."""
        return self._bench.bundle

    @property
    def roster(self) -> Roster:
        """Who holds the key's shares."""
        return self._bench.roster

    @property
    def point(self) -> int:
        """This guardian's point."""
        return self._bench.share.point

    def generation(self) -> str:
        """Return which sharing of the key the share is of."""
        return self._bench.roster.generation.sha256

    def ciphertexts(self, session: bytes) -> int:
        """Return how many ciphertexts the unit of a session has."""
        with self._lock:
            return self._session(session).unit.shape.ciphertexts(self._bench.evaluator.dimension)

    def follow(self, server: str, gallery: str) -> None:
        """Bring the replica up to date: what was amended leaves it. See ``Replica.follow``."""
        replica = self._bench.replica
        pin = replica.sources[server].pin(gallery)
        enrollers = self._bench.rulebook.policy.document.enrollers(gallery)
        replica.follow(server, gallery, pin, enrollers)

    def begin(self, errand: Errand) -> Admitted:
        """Check an errand against this guardian's own catalogue; one before it is forgotten.

        Raises
        ------
        InvalidInput, Mismatch
            Not for this guardian, or its catalogue has the unit otherwise.
        PermissionRefused
            A template would be erased that is not removed; the block has been redacted as often as
            its scores bear; or zero tests of the gallery failed, or were abandoned, too often.
        Busy, Damaged, NotFound
            See ``Replica.follow``.
        """
        bench = self._bench
        self._check_members(errand)
        document = bench.rulebook.policy.document
        if errand.server not in document.servers:
            raise PermissionRefused("the policy does not name this server")
        bench.record.check(suspects_of(errand))
        source = bench.replica.sources.get(errand.server)
        if source is None:
            raise PermissionRefused("this auditor does not know where the server is")
        pin = source.pin(errand.gallery)
        if pin.key_epoch != bench.bundle.epoch:
            raise Mismatch("the gallery is of another key epoch")
        enrollers = document.enrollers(errand.gallery)
        history = bench.replica.follow(errand.server, errand.gallery, pin, enrollers)
        live = [history.units[n] for names in history.at(history.version).values() for n in names]
        unit = self._check_unit(errand, live)
        held = coefficients(unit.placement, errand.erased, bench.bundle.profile.degree)
        makers = len(bench.bundle.members)
        panelists = Panelists(errand.digest(), errand.active, makers)
        session = _Session(
            errand,
            pin,
            unit,
            bench.replica.mirror.enrolled_sha256(errand.server, errand.gallery, unit.token),
            held,
            bench.clock(),
            Round(bench.share, panelists, "unit"),
            Round(bench.share, panelists, "difference"),
            not bench.record.untested([unit]),
        )
        name = secrets.token_bytes(16)
        with self._lock:
            self._sessions = {name: session}
        rounds = session.unit_round.commitment, session.difference_round.commitment
        return Admitted(name, *rounds, session.sound)

    def _check_members(self, errand: Errand) -> None:
        roster = self._bench.roster
        if errand.generation != roster.generation.sha256:
            raise Mismatch("this guardian's share is of another generation")
        points, members = errand.active, len(roster.members)
        sound = (
            len(points) == roster.threshold
            and list(points) == sorted(set(points))
            and all(1 <= point <= members for point in points)
        )
        if not sound or self.point not in points:
            raise InvalidInput(f"exactly {roster.threshold} members redact, this one among them")

    def _check_unit(self, errand: Errand, live: Iterable[Unit]) -> Unit:
        """Return the unit, which is as the errand says and of which only what is removed goes."""
        live = list(live)
        unit = next((one for one in live if one.token == errand.token), None)
        if unit is None or unit.sha256 != errand.old_sha256:
            raise Mismatch("the unit is not what it was", hint="run it again")
        mirror = self._bench.replica.mirror
        removed = mirror.removed_places(errand.server, errand.gallery, errand.token)
        if not set(unit.erased) < set(errand.erased) <= removed:
            raise PermissionRefused("only what is removed is erased")
        if len(removed) == unit.placement.count:
            raise NotFound("the unit is gone with all of its templates")
        if unit.shape is Shape.COLUMNS:
            block = [one for one in live if one.placement.block == unit.placement.block]
            added = added_encryptions(block) + len(errand.active)
            if added > most_encryptions(self._bench.bundle.profile):
                raise PermissionRefused(
                    "the block was redacted as often as its scores bear",
                    hint="have its templates enrolled anew",
                )
        return unit

    def reveal_salt(self, session: bytes, commitments: Mapping[int, bytes]) -> bytes:
        """Return the salt of the test that is due; see :class:`Round`."""
        with self._lock:
            return self._session(session).round.reveal_salt(commitments)

    def prepare(self, session: bytes, salts: Mapping[int, bytes]) -> bytes:
        """Return the commitment to the answer of the test that is due; see :class:`Round`."""
        with self._lock:
            found = self._session(session)
            make = self._difference_test if found.new_sha256 else self._unit_test
            subject = bytes.fromhex(found.new_sha256)
            return found.round.prepare(salts, subject, lambda seed: make(found, seed))

    def reveal_test(self, session: bytes, commitments: Mapping[int, bytes]) -> bytes:
        """Return the answer; the test is on record until what it tests is found sound."""
        with self._lock:
            found = self._session(session)
            answer = found.round.reveal_test(commitments)
            self._bench.record.begin([found.trial])
            return answer

    def conclude(self, session: bytes, answers: Mapping[int, bytes]) -> None:
        """Judge the test.

        Raises
        ------
        Malformed
            It was not passed.
        OpeningFailed, OpeningOutOfTurn
            See :class:`Round`.
        """
        with self._lock:
            found, record = self._session(session), self._bench.record
            if not found.round.conclude(answers):
                record.conclude(passed=[], failed=[found.trial])
                text = SPOILT_TEXT if found.new_sha256 else GALLERY_TEXT
                _log.error("zero test failed", reason=text, gallery=found.errand.gallery)
                raise Malformed(text, hint="nothing was signed; ask the auditors")
            record.conclude(passed=[found.trial], failed=[])
            if found.new_sha256:
                found.verified = True
            else:
                found.sound = True

    def contribute(self, session: bytes) -> Generator[bytes, None, None]:
        """Yield this guardian's contributions, in order.

        Raises
        ------
        OpeningOutOfTurn
            The unit has not passed its zero test.
        """
        bench = self._bench
        with self._lock:
            found = self._session(session)
            if not found.sound:
                raise OpeningOutOfTurn("nothing is contributed to a unit before its zero test")
            old = self._old(found)
        active = found.errand.active
        for one in contributions(bench.share, active, bench.bundle, old, found.held):
            yield one.to_bytes()

    def take(self, session: bytes, ciphertexts: Iterable[bytes]) -> None:
        """Take the new ciphertexts, once.

        Raises
        ------
        OpeningOutOfTurn
            Taken before, or before the unit has passed its zero test.
        MalformedCiphertext, InvalidInput
            They are not as many and of the kind that the unit holds.
        """
        with self._lock:
            found = self._session(session)
            if found.new_sha256 or not found.sound:
                raise OpeningOutOfTurn("new ciphertexts are taken once, when the unit is sound")
            profile, kind = self._bench.bundle.profile, KINDS[found.unit.shape]
            wanted = found.unit.shape.ciphertexts(self._bench.evaluator.dimension)
        new = []
        digest = hashlib.sha256()
        for data in ciphertexts:
            parse_ciphertext(data, profile, kind).hash_plain(digest)
            new.append(data)
            if len(new) > wanted:
                break
        if len(new) != wanted:
            raise InvalidInput("the new ciphertexts are not as many as the old ones")
        with self._lock:
            if found.new_sha256:
                raise OpeningOutOfTurn("new ciphertexts are taken once")
            found.new = new
            found.new_sha256 = digest.hexdigest()

    def sign(self, session: bytes, issued_at: str) -> Signature:
        """Return this guardian's signature of the amendment, and end the session.

        Parameters
        ----------
        issued_at
            The registrar's time: all sign the same.

        Raises
        ------
        OpeningOutOfTurn
            The new ciphertexts have not passed their test.
        InvalidInput
            The time is not now.
        """
        bench = self._bench
        with self._lock:
            found = self._session(session)
            if not found.verified:
                raise OpeningOutOfTurn("nothing is signed before it is tested")
            if abs(utc_moment(issued_at) - bench.clock()) > CLOCK_SKEW + SESSION_LIFETIME:
                raise InvalidInput("the amendment's time is not now")
            statement = amendment_of(found, issued_at)
            del self._sessions[session]
        redacted = Redaction(found.errand.erased, statement.count, statement.members)
        bench.record.passed([_as(found.unit, redacted, bytes.fromhex(found.new_sha256))])
        _log.info("amendment signed", gallery=found.errand.gallery, sha256=statement.sha256())
        return bench.identity.sign(statement.payload_type, statement.payload()).signatures[0]

    def _unit_test(self, found: _Session, seed: bytes) -> ZeroTest:
        unit, degree = found.unit, self._bench.bundle.profile.degree
        encryptions = 1 if unit.redaction is None else unit.redaction.encryptions
        claim = Claim(KINDS[unit.shape], ~unit.held(degree), self._old(found), encryptions)
        return zero_test(self._bench.evaluator, seed, [claim])

    def _difference_test(self, found: _Session, seed: bytes) -> ZeroTest:
        profile, kind = self._bench.bundle.profile, KINDS[found.unit.shape]

        def new() -> Iterator[Ciphertext]:
            return (parse_ciphertext(data, profile, kind) for data in found.new)

        members = len(found.errand.active)
        evaluator, old = self._bench.evaluator, self._old
        return redaction_test(evaluator, seed, lambda: old(found), new, found.held, members)

    def _old(self, found: _Session) -> Iterator[Ciphertext]:
        errand = found.errand
        return self._bench.replica.ciphertexts(errand.server, errand.gallery, found.unit)

    def _session(self, name: bytes) -> _Session:
        found = self._sessions.get(name)
        if found is None or self._bench.clock() - found.began > SESSION_LIFETIME:
            raise NotFound("this guardian has no such redaction", hint="run it again")
        return found


def amendment_of(found: _Session, issued_at: str) -> Amendment:
    """Return what a session comes to."""
    errand, before = found.errand, found.unit.redaction
    return Amendment(
        gallery=errand.gallery,
        pin=found.pin,
        generation=errand.generation,
        token=errand.token.hex(),
        enrolled_sha256=found.enrolled_sha256,
        old_sha256=errand.old_sha256.hex(),
        new_sha256=found.new_sha256,
        erased=write_places(errand.erased),
        count=1 if before is None else before.count + 1,
        members=len(errand.active),
        issued_at=issued_at,
    )


def _as(unit: Unit, redaction: Redaction, sha256: bytes) -> Unit:
    return Unit(
        token=unit.token,
        shape=unit.shape,
        placement=unit.placement,
        sha256=sha256,
        redaction=redaction,
    )
