"""Erasing what was removed: the registrar's part, which brings k guardians together unit by unit.

Each unit is one errand (see ``redacting.py``). What fails, because somebody is away or the unit has
changed meanwhile, is done again from the start the next time: nothing is kept in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeVar

import structlog

from underseal_auditor.feed import CatalogueFeed
from underseal_auditor.keys.joint_opening import OpeningFailed
from underseal_auditor.mirror import Mirror
from underseal_auditor.policy.rulebook import Rulebook
from underseal_auditor.redacting import Admitted, Errand
from underseal_auditor.store.catalogue import HalfRemoved
from underseal_auditor.zero_tests import KINDS
from underseal_core.amendment import Amendment, open_amendment, write_places
from underseal_core.bundle import PublicBundle
from underseal_core.errors import Busy, Damaged, MalformedCiphertext, NotFound, UndersealError
from underseal_core.gallery.unit import Unit, coefficients
from underseal_core.roster import Roster
from underseal_core.scheme.ciphertext import parse_ciphertext, plain_sha256
from underseal_core.scheme.redaction import redacted
from underseal_core.signing import Envelope, Signature
from underseal_core.statements import Pin, utc_text

_log: Final = structlog.get_logger("underseal.erasing")

T = TypeVar("T")


class RedactionLink(Protocol):
    """A guardian, elsewhere or here; the methods are those of ``RedactionDesk``.

    Busy also means that it cannot be reached.
    """

    def generation(self) -> str:
        """Return which sharing of the key its share is of."""
        ...

    def begin(self, errand: Errand) -> Admitted:
        """Begin."""
        ...

    def reveal_salt(self, session: bytes, commitments: Mapping[int, bytes]) -> bytes:
        """Return its salt."""
        ...

    def prepare(self, session: bytes, salts: Mapping[int, bytes]) -> bytes:
        """Return its commitment to the answer."""
        ...

    def reveal_test(self, session: bytes, commitments: Mapping[int, bytes]) -> bytes:
        """Return its answer."""
        ...

    def conclude(self, session: bytes, answers: Mapping[int, bytes]) -> None:
        """Give it everybody's answers, by which it judges for itself."""
        ...

    def contribute(self, session: bytes) -> Iterator[bytes]:
        """Return its contributions."""
        ...

    def take(self, session: bytes, ciphertexts: Sequence[bytes]) -> None:
        """Give it the new ciphertexts."""
        ...

    def sign(self, session: bytes, issued_at: str) -> Signature:
        """Return its signature of the amendment."""
        ...


class AmendableServer(CatalogueFeed, Protocol):
    """A server, as units are taken from it and given back to it."""

    def unit(self, gallery: str, token: bytes, epoch: str = "") -> Iterator[bytes]:
        """Return a live unit's ciphertexts."""
        ...

    def amend(
        self,
        gallery: str,
        amendment: Envelope,
        successions: Sequence[bytes],
        ciphertexts: Sequence[bytes],
    ) -> None:
        """Let ciphertexts that k auditors signed for take a unit's place."""
        ...


@dataclass(frozen=True, slots=True)
class Due:
    """Templates of one unit that are removed, and wait to be erased."""

    server: str
    gallery: str
    unit: Unit
    removed: tuple[int, ...]

    @property
    def templates(self) -> int:
        """How many wait."""
        return len(self.removed) - len(self.unit.erased)


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one unit: the amendment's hash, or why there is none."""

    due: Due
    amendment_sha256: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class ErasingOffice:
    """What erasing works with.

    ``successions``: log entries by which a server learns who holds the shares. ``record`` puts an
    amendment into the log. ``clock`` returns aware times. ``follow`` brings this process's own
    replica of a server's gallery up to date, if it has one: guardians elsewhere do so by
    themselves.
    """

    bundle: PublicBundle
    roster: Roster
    successions: Sequence[bytes]
    rulebook: Rulebook
    mirror: Mirror
    servers: Mapping[str, AmendableServer]
    links: Mapping[int, RedactionLink]
    record: Callable[[Envelope], None]
    clock: Callable[[], datetime]
    follow: Callable[[str, str], None] | None = None


class Eraser:
    """Erases what is removed in the galleries of the policy. Not thread-safe."""

    def __init__(self, office: ErasingOffice) -> None:
        self._office = office

    def due(self) -> list[Due]:
        """Bring the catalogues up to date, and return what waits in them."""
        return [one for place in self._galleries() for one in self._due_in(*place)]

    def run(self) -> list[Done]:
        """Erase all that waits, one unit after another, and return what came of each."""
        return [self._attempt(one) for one in self.due()]

    def _galleries(self) -> Iterator[tuple[str, str]]:
        document = self._office.rulebook.policy.document
        names = {name for purpose in document.purposes.values() for name in purpose.galleries}
        for server in sorted(set(document.servers) & set(self._office.servers)):
            for name in sorted(names):
                yield server, name

    def _due_in(self, server: str, gallery: str) -> list[Due]:
        office, source = self._office, self._office.servers[server]
        enrollers = office.rulebook.policy.document.enrollers(gallery)
        try:
            pin: Pin = source.pin(gallery)
            if pin.key_epoch != office.bundle.epoch:
                return []
            office.mirror.update(server, gallery, source, pin, enrollers)
        except NotFound:
            return []
        except UndersealError as error:
            _log.warning("not looked at", server=server, gallery=gallery, reason=error.public)
            return []
        found: list[HalfRemoved] = office.mirror.half_removed(server, gallery)
        return [Due(server, gallery, one.unit, one.removed) for one in found]

    def _attempt(self, due: Due) -> Done:
        try:
            amendment = self._erase(due)
        except UndersealError as error:
            _log.warning("not erased", gallery=due.gallery, reason=error.public)
            return Done(due, failure=error.public)
        sha256 = hashlib.sha256(amendment.payload).hexdigest()
        _log.info("erased", gallery=due.gallery, templates=due.templates, amendment=sha256)
        return Done(due, amendment_sha256=sha256)

    def _erase(self, due: Due) -> Envelope:
        office, server = self._office, self._office.servers[due.server]
        old = list(server.unit(due.gallery, due.unit.token))
        try:
            same = self._sha256(due, old) == due.unit.sha256
        except MalformedCiphertext:
            same = False
        if not same:
            raise Damaged("the server sent another unit than was signed for")
        errand = self._errand(due)
        with ThreadPoolExecutor(len(errand.active), thread_name_prefix="redaction") as threads:
            joint = JointRedaction(errand, office.links, threads)
            new = joint.redact(office.bundle, due.unit, old)
            issued_at = utc_text(office.clock())
            amendment = joint.sign(self._amendment(due, errand, new, issued_at))
        open_amendment(amendment, [office.roster])
        office.record(amendment)
        server.amend(due.gallery, amendment, office.successions, new)
        if office.follow is not None:
            office.follow(due.server, due.gallery)
        return amendment

    def _sha256(self, due: Due, parts: Sequence[bytes]) -> bytes:
        profile, kind = self._office.bundle.profile, KINDS[due.unit.shape]
        return plain_sha256(parse_ciphertext(part, profile, kind) for part in parts)

    def _errand(self, due: Due) -> Errand:
        generation = self._office.roster.generation.sha256
        active = self._choose(generation)
        unit = due.unit
        return Errand(
            due.server, due.gallery, unit.token, due.removed, unit.sha256, active, generation
        )

    def _choose(self, generation: str) -> tuple[int, ...]:
        """Return the first k points whose guardians answer, ascending."""
        needed, there = self._office.roster.threshold, []
        for point, link in sorted(self._office.links.items()):
            try:
                if link.generation() == generation:
                    there.append(point)
            except Busy:
                _log.warning("guardian out of reach", point=point)
            if len(there) == needed:
                return tuple(there)
        raise Busy(f"too few guardians can be reached: {len(there)} of {needed}")

    def _amendment(
        self, due: Due, errand: Errand, new: Sequence[bytes], issued_at: str
    ) -> Amendment:
        office, before = self._office, due.unit.redaction
        enrolled = office.mirror.enrolled_sha256(due.server, due.gallery, due.unit.token)
        return Amendment(
            gallery=due.gallery,
            pin=office.servers[due.server].pin(due.gallery),
            generation=errand.generation,
            token=errand.token.hex(),
            enrolled_sha256=enrolled,
            old_sha256=errand.old_sha256.hex(),
            new_sha256=self._sha256(due, new).hex(),
            erased=write_places(errand.erased),
            count=1 if before is None else before.count + 1,
            members=len(errand.active),
            issued_at=issued_at,
        )


class JointRedaction:
    """One errand, with the guardians of its active set."""

    def __init__(
        self, errand: Errand, links: Mapping[int, RedactionLink], threads: ThreadPoolExecutor
    ) -> None:
        self._errand = errand
        self._links = links
        self._threads = threads
        self._admitted = self._each(lambda point: links[point].begin(errand))

    def redact(self, bundle: PublicBundle, unit: Unit, old: Sequence[bytes]) -> list[bytes]:
        """Return the new ciphertexts, when all have tested them.

        Raises
        ------
        UndersealError
            What one of them refused with.
        """
        admitted = self._admitted
        if not all(one.sound for one in admitted.values()):
            self._test({point: one.unit_salt for point, one in admitted.items()})
        profile, kind = bundle.profile, KINDS[unit.shape]
        held = coefficients(unit.placement, self._errand.erased, profile.degree)
        given = self._each(lambda p: list(self._links[p].contribute(admitted[p].session)))
        new = []
        for index, data in enumerate(old):
            parts = self._parsed(given, index, len(old))
            ciphertext = redacted(
                parse_ciphertext(data, profile, kind),
                held,
                [parse_ciphertext(part, profile, kind) for part in parts],
            )
            new.append(ciphertext.to_bytes())
        self._each(lambda point: self._links[point].take(admitted[point].session, new))
        self._test({point: one.difference_salt for point, one in admitted.items()})
        return new

    def _parsed(self, given: Mapping[int, list[bytes]], index: int, count: int) -> list[bytes]:
        for point, parts in given.items():
            if len(parts) != count:
                raise OpeningFailed(f"guardian {point} contributed to another number of columns")
        return [parts[index] for parts in given.values()]

    def sign(self, amendment: Amendment) -> Envelope:
        """Return the amendment with the signatures of all; they are not verified here."""
        made = self._each(
            lambda p: self._links[p].sign(self._admitted[p].session, amendment.issued_at)
        )
        return Envelope(amendment.payload_type, amendment.payload(), tuple(made.values()))

    def _test(self, commitments: Mapping[int, bytes]) -> None:
        links, sessions = self._links, {p: one.session for p, one in self._admitted.items()}
        salts = self._each(lambda p: links[p].reveal_salt(sessions[p], commitments))
        prepared = self._each(lambda p: links[p].prepare(sessions[p], salts))
        answers = self._each(lambda p: links[p].reveal_test(sessions[p], prepared))
        self._each(lambda p: links[p].conclude(sessions[p], answers))

    def _each(self, call: Callable[[int], T]) -> dict[int, T]:
        """Call for every active point at once; a failure is raised after all ended."""
        asked = {point: self._threads.submit(call, point) for point in self._errand.active}
        failures = [error for f in asked.values() if (error := f.exception()) is not None]
        if failures:
            raise failures[0]
        return {point: answer.result() for point, answer in asked.items()}
