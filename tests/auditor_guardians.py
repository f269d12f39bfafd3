"""Guardians of a small world, each with a database of its own, and links that may misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.auditor_world import NOW, Operator, World, in_force
from underseal_auditor.examination import Examiner
from underseal_auditor.guardian import Dossier
from underseal_auditor.guardianship import Begun, GuardianDesk, Summons, Watch
from underseal_auditor.keys.joint_opening import ZeroCommitment
from underseal_auditor.log_memory import LogMemory
from underseal_auditor.logbook import Logbook
from underseal_auditor.mirror import Mirror
from underseal_auditor.panel import GuardianFacts, Panel
from underseal_auditor.policy.document import Policy
from underseal_auditor.replica import Replica
from underseal_auditor.store.database import Database
from underseal_auditor.store.docket import Docket
from underseal_auditor.store.frozen import FrozenServers
from underseal_auditor.store.ledger import Ledger
from underseal_auditor.store.quotas import Tallies
from underseal_auditor.store.tested import SoundUnits
from underseal_auditor.verify.announcement import Notice, Register
from underseal_auditor.verify.chain import Place
from underseal_core.errors import Busy
from underseal_core.signing import Envelope, Signature
from underseal_core.tlog.note import VerifierKey

Change = Callable[[bytes], bytes]


def same(data: bytes) -> bytes:
    return data


@dataclass
class Link:
    """A guardian in this process, reached as one elsewhere would be. ``down``: out of reach."""

    folder: Path
    of: World
    rules: Policy
    point: int
    log_key: VerifierKey
    replica: Replica
    now: datetime = NOW
    down: bool = False
    dies_before: str = ""
    zeros: Change = same
    answers: Change = same
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """(Re)start: everything that is not in the database is forgotten."""
        self.database = Database(self.folder / f"guardian-{self.point}.sqlite")
        ledger = Ledger(self.database)
        self.frozen, evaluator = FrozenServers(self.database), self.of.operator.evaluator
        self.tested = SoundUnits(self.database, self.of.bundle.epoch)
        register = Register(self.log_key, frozenset(self.of.roster.members))
        self.desk = GuardianDesk(
            Watch(
                rulebook=in_force(self.rules, self.of, self.database),
                bundle=self.of.bundle,
                roster=self.of.roster,
                share=self.of.shares[self.point - 1],
                identity=self.of.members[self.point - 1],
                examiner=Examiner(
                    self.replica, evaluator, self.frozen, self.tested, lambda: self.now
                ),
                ledger=ledger,
                docket=Docket(self.database),
                tallies=Tallies(self.database),
                log=LogMemory(register, ledger, lambda: self.now),
                clock=lambda: self.now,
            )
        )
        self.down = False
        self.dies_before = ""

    def stop(self) -> None:
        self.database.close()
        self.down = True

    @property
    def total(self) -> int:
        return Ledger(self.database).epoch_total(self.of.bundle.epoch)

    def facts(self) -> GuardianFacts:
        self._called("facts")
        guardian = self.desk
        return GuardianFacts(
            guardian.point,
            guardian.bundle.epoch,
            guardian.policy_sha256,
            guardian.log_size,
            guardian.roster.generation.sha256,
            tuple(guardian.abandoned),
        )

    def commit(
        self,
        dossier: Dossier,
        active: tuple[int, ...],
        extends: tuple[bytes, ...],
        generation: str = "",
    ) -> Begun:
        self._called("commit")
        notice = Notice(dossier.intent, extends)
        stated = self.stated(generation)
        summons = Summons(
            dossier.request, dossier.result, active, notice, stated, dossier.approvals
        )
        beginning = self.desk.begin(summons)
        for place, ciphertext in dossier.sealed.everything().items():
            beginning.intake.take(place.kind, place.block, ciphertext.to_bytes())
        return self.desk.commit(beginning)

    def reveal(self, session: bytes, commitments: tuple[ZeroCommitment, ...], size: int) -> bytes:
        self._called("reveal")
        zeros = self.desk.reveal(session, commitments)
        assert len(zeros) == size == self.desk.zeros_size(session)
        return self.zeros(zeros)

    def take(
        self, session: bytes, revealed: Mapping[int, bytes], untested: frozenset[bytes]
    ) -> bytes:
        self._called("take")
        return self.desk.take(session, revealed, untested)

    def reveal_tests(self, session: bytes, commitments: Mapping[int, bytes]) -> bytes:
        self._called("reveal_tests")
        return self.desk.reveal_tests(session, commitments)

    def conclude_tests(self, session: bytes, answers: Mapping[int, bytes]) -> None:
        self._called("conclude_tests")
        self.desk.conclude_tests(session, answers)

    def answer(self, session: bytes, place: Place) -> bytes:
        self._called("answer")
        return self.answers(self.desk.answer(session, place))

    def countersign(self, session: bytes, release: Envelope) -> Signature:
        self._called("countersign")
        return self.desk.countersign(session, release)

    def take_release(self, release: Envelope) -> None:
        self._called("take_release")
        self.desk.take_release(release)

    def stated(self, generation: str) -> str:
        return generation or self.of.roster.generation.sha256

    def _called(self, name: str) -> None:
        if name == self.dies_before:
            self.stop()
        if self.down:
            raise Busy("the guardian cannot be reached")
        self.calls.append(name)


@dataclass
class Releases:
    """The releases that a registrar has stored: none before it has a ledger."""

    ledger: Ledger | None = None

    def __call__(self, client: str, request_id: str) -> Envelope | None:
        return None if self.ledger is None else self.ledger.envelope(client, request_id)


@contextmanager
def panel_of(
    folder: Path,
    of: World,
    rules: Policy,
    logbook: Logbook,
    operator: Operator | None = None,
    releases: Releases | None = None,
) -> Iterator[tuple[Panel, list[Link]]]:
    """All guardians of a world, and the view of them of the registrar that keeps this log."""
    archive = releases or Releases()
    points = range(1, len(of.shares) + 1)
    with ExitStack() as stack:
        links = []
        for point in points:
            database = Database(folder / f"mirror-{point}.sqlite")
            stack.callback(database.close)
            replica = of.replica(
                folder / str(point), Mirror(database, rosters=[of.roster]), operator
            )
            links.append(Link(folder, of, rules, point, logbook.key, replica))
        for link in links:
            stack.callback(link.stop)
        by_point = dict(zip(points, links, strict=True))
        panel = Panel(
            of.bundle, of.roster, lambda: rules.sha256, by_point, logbook.extends, archive
        )
        stack.callback(panel.close)
        yield panel, links
