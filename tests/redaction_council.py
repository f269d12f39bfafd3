"""Guardians with replicas of their own who erase together, in one process, and a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.auditor_world import NOW, Operator, World, in_force, policy
from underseal_auditor.converted import EarlierUnits
from underseal_auditor.erasing import Eraser, ErasingOffice
from underseal_auditor.feed import Changes
from underseal_auditor.mirror import Mirror
from underseal_auditor.redacting import Bench, RedactionDesk
from underseal_auditor.replica import Replica
from underseal_auditor.store.database import Database
from underseal_auditor.store.tested import SoundUnits
from underseal_core.amendment import Amendment
from underseal_core.epochs import EarlierEpochs
from underseal_core.signing import Envelope
from underseal_core.statements import Pin


@dataclass
class AmendableOperator:
    """The tests' operator as auditors reach it."""

    operator: Operator
    amended: list[Envelope] = field(default_factory=list)

    def pin(self, gallery: str) -> Pin:
        return self.operator.pin(gallery)

    def changes(self, gallery: str, after_version: int) -> Iterator[Changes]:
        return self.operator.changes(gallery, after_version)

    def unit(self, gallery: str, token: bytes, epoch: str = "") -> Iterator[bytes]:
        return self.operator.unit(gallery, token, epoch)

    def amend(
        self,
        gallery: str,
        amendment: Envelope,
        successions: Sequence[bytes],
        ciphertexts: Sequence[bytes],
    ) -> None:
        token = Amendment.parse(amendment.payload).token
        (number,) = (i for i, u in enumerate(self.operator.units) if u.token.hex() == token)
        self.operator.amend(number, list(ciphertexts), amendment)
        self.amended.append(amendment)


@dataclass
class Council:
    """An eraser and the guardians that it reaches, by point; ``logged`` is its log."""

    server: AmendableOperator
    desks: dict[int, RedactionDesk]
    records: dict[int, SoundUnits]
    replicas: dict[int, Replica]
    office: ErasingOffice
    logged: list[Envelope]

    @property
    def eraser(self) -> Eraser:
        return Eraser(self.office)


@contextmanager
def council_of(of: World, operator: Operator, folder: Path) -> Iterator[Council]:
    """Every member of a world as a guardian, and a registrar without a share."""
    server, logged = AmendableOperator(operator), []  # type: ignore[var-annotated]
    rules = policy(of.bundle.profile.name)
    with ExitStack() as stack:
        desks, records, replicas = {}, {}, {}
        for share, identity in zip(of.shares, of.members, strict=True):
            point = share.point
            database = Database(folder / f"{point}.sqlite")
            stack.callback(database.close)
            mirror = Mirror(database, rosters=[of.roster])
            kept = EarlierUnits(of.bundle, EarlierEpochs(), {})
            evaluator, sources = of.operator.evaluator, {"server": server}
            replicas[point] = Replica(folder / str(point), mirror, evaluator, sources, kept)
            records[point] = SoundUnits(database, of.bundle.epoch)
            bench = Bench(
                bundle=of.bundle,
                roster=of.roster,
                share=share,
                identity=identity,
                replica=replicas[point],
                evaluator=evaluator,
                record=records[point],
                rulebook=in_force(rules, of, database),
                clock=now,
            )
            desks[point] = RedactionDesk(bench)
        database = Database(folder / "registrar.sqlite")
        stack.callback(database.close)
        office = ErasingOffice(
            bundle=of.bundle,
            roster=of.roster,
            successions=(),
            rulebook=in_force(rules, of, database),
            mirror=Mirror(database, rosters=[of.roster]),
            servers={"server": server},
            links=dict(desks),
            record=logged.append,
            clock=now,
        )
        yield Council(server, desks, records, replicas, office, logged)


def now() -> datetime:
    return NOW
