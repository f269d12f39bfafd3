"""What a log's entries say together: statistics, and where they contradict each other. Pure.

Rules that any honest registrar keeps, and that anyone can check:

    signed      every entry is a statement of a known kind with valid signatures
    member      one of its signers took part in the key ceremony (when bundles are given)
    approved    a policy is signed by k members of its key epoch (when their bundle is given)
    serial      and is not older than the one before
    policy      an intent is made under the policy and keys that were logged last
    intent      an outcome follows its own intent, once, and says the same about the request
    answered    a request is answered once
    revoked     a revocation follows a provisional release whose deadline has passed, once
    warrant     nothing is opened for a client and purpose while a warrant of theirs is overdue
    openings    a key epoch has no more intents than its checks of probes allow (when bundles are
                given)
    total       ``epoch_total`` is the sum of all charges of the key epoch so far
    budget      the sum stays within the budget that was logged for the key epoch
    succession  a succession follows the last one of its key epoch, and all its members signed it
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from underseal_auditor.policy.signed import approving
from underseal_core.amendment import Amendment
from underseal_core.errors import Damaged
from underseal_core.log_entries import (
    RELEASED,
    Alarm,
    Intent,
    LogStatement,
    Outcome,
    PolicyInForce,
    Revocation,
    Succession,
    WarrantFiled,
    decode_entry,
    open_entry,
)
from underseal_core.roster import Roster


@dataclass(slots=True)
class Row:
    """Counts of one client, purpose and month (``YYYY-MM``, UTC, of the intents).

    ``unanswered``: openings that a crash ended, or that run now.
    """

    client: str
    purpose: str
    month: str
    intents: int = 0
    released: int = 0
    refused: int = 0
    matches: int = 0
    compared: int = 0
    values_charged: int = 0
    provisional: int = 0
    revoked: int = 0

    @property
    def unanswered(self) -> int:
        """Intents without an outcome."""
        return self.intents - self.released - self.refused


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule at an entry."""

    index: int
    rule: str
    text: str


@dataclass(slots=True)
class Epoch:
    """What a key epoch has cost so far; ``budget`` is 0 until a policy was logged."""

    total: int = 0
    budget: int = 0

    @property
    def used(self) -> float:
        """Share of the budget."""
        return self.total / self.budget if self.budget else 0.0


@dataclass(slots=True)
class _Due:
    """A provisional release. Times of statements compare as texts."""

    outcome: Outcome
    row: Row
    filed: bool = False
    revoked: bool = False
    lifted: bool = False

    def suspends(self, intent: Intent) -> bool:
        """Tell whether nothing may be opened for this intent's client and purpose."""
        same = (self.outcome.client, self.outcome.purpose) == (intent.client, intent.purpose)
        missing = same and not self.filed and not self.lifted
        return missing and intent.at > self.outcome.warrant_deadline

    def fits(self, revocation: Revocation) -> bool:
        """Tell whether a revocation is of this release, and not too early."""
        outcome = self.outcome
        stated = (revocation.release_sha256, revocation.warrant_deadline, revocation.purpose)
        true = (outcome.release_sha256, outcome.warrant_deadline, outcome.purpose)
        return stated == true and revocation.at > outcome.warrant_deadline


@dataclass(slots=True)
class EntryAudit:
    """Takes entries in order, see :meth:`visit`.

    Parameters
    ----------
    rosters
        All of every key epoch in the log; None leaves out rules ``member`` and ``approved``.
    openings
        How many searches key epochs may open, by their ids; one that is missing has no limit.
    """

    rosters: tuple[Roster, ...] | None = None
    openings: Mapping[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    epochs: dict[str, Epoch] = field(default_factory=dict)
    policies: int = 0
    alarms: list[Alarm] = field(default_factory=list)
    _rows: dict[tuple[str, str, str], Row] = field(default_factory=dict)
    _intended: dict[str, set[str]] = field(default_factory=dict)
    _open: dict[str, Intent] = field(default_factory=dict)
    _answered: set[tuple[str, str]] = field(default_factory=set)
    _policy: PolicyInForce | None = None
    _due: dict[tuple[str, str], _Due] = field(default_factory=dict)
    _successions: dict[str, Succession] = field(default_factory=dict)

    def visit(self, index: int, entry: bytes) -> None:
        """Take the next entry; rules that it breaks go to ``findings``."""
        try:
            statement = open_entry(entry)
        except Damaged as error:
            self._find(index, "signed", error.public)
            return
        signers = {signature.public_key for signature in decode_entry(entry).signatures}
        if self.rosters is not None and not any(signers & set(r.members) for r in self.rosters):
            self._find(index, "member", "an entry that no auditor of these keys signed")
        for rule, text in self._take(statement, signers):
            self._find(index, rule, text)

    def rows(self) -> list[Row]:
        """Return the statistics, by month, client and purpose."""
        return sorted(self._rows.values(), key=lambda row: (row.month, row.client, row.purpose))

    def _find(self, index: int, rule: str, text: str) -> None:
        self.findings.append(Finding(index, rule, text))

    def _take(self, statement: LogStatement, signers: set[bytes]) -> Iterator[tuple[str, str]]:
        match statement:
            case Alarm():
                self.alarms.append(statement)
            case PolicyInForce():
                yield from self._approved(statement)
                self._policy = statement
                self._lift(statement)
                self.policies += 1
                self.epochs.setdefault(statement.key_epoch, Epoch()).budget = statement.budget
            case Intent():
                yield from self._intent(statement)
            case Outcome():
                yield from self._outcome(statement)
            case WarrantFiled():
                yield from self._filed(statement)
            case Revocation():
                yield from self._revoked(statement)
            case Succession():
                yield from self._succession(statement, signers)
            case Amendment():
                yield from self._amended(statement, signers)

    def _approved(self, policy: PolicyInForce) -> Iterator[tuple[str, str]]:
        before = self._policy
        if before is not None and _older(policy, before):
            yield "serial", f"serial {policy.serial} comes after {before.serial}"
        if self.rosters is None:
            return
        payload, signatures = policy.approval().payload(), policy.member_signatures()
        enough = (
            len(approving(roster, payload, signatures)) >= roster.threshold
            for roster in self.rosters
            if roster.epoch == policy.key_epoch
        )
        if not any(enough):
            yield "approved", "a policy that is not signed by k auditors of its key epoch"

    def _row(self, intent: Intent) -> Row:
        key = intent.client, intent.purpose, intent.at[:7]
        return self._rows.setdefault(key, Row(*key))

    def _intent(self, intent: Intent) -> Iterator[tuple[str, str]]:
        self._row(intent).intents += 1
        self._open[intent.sha256()] = intent
        policy = self._policy
        in_force = policy and (policy.policy_sha256, policy.key_epoch)
        if in_force != (intent.policy_sha256, intent.key_epoch):
            yield "policy", "an intent under another policy or other keys than were logged"
        if (intent.client, intent.request_id) in self._answered:
            yield "answered", "a request that was answered is opened again"
        if any(due.suspends(intent) for due in self._due.values()):
            yield "warrant", "an intent of a client whose warrant for this purpose is overdue"
        yield from self._opening(intent)

    def _opening(self, intent: Intent) -> Iterator[tuple[str, str]]:
        """Count an intent; one that was logged a second time, after a crash, is the same."""
        begun = self._intended.setdefault(intent.key_epoch, set())
        begun.add(intent.sha256())
        most = self.openings.get(intent.key_epoch)
        if most is not None and len(begun) > most:
            yield "openings", f"{len(begun)} searches announced, their checks allow {most}"

    def _outcome(self, outcome: Outcome) -> Iterator[tuple[str, str]]:
        intent = self._open.pop(outcome.intent_sha256, None)
        if intent is None:
            yield "intent", "an outcome without an intent before it"
        else:
            self._count(self._row(intent), outcome)
            if outcome.warrant_deadline:
                owner = outcome.client, outcome.request_id
                self._due[owner] = _Due(outcome, self._row(intent))
            if _subject(intent) != _subject(outcome):
                yield "intent", "an outcome that says something else than its intent"
        if (outcome.client, outcome.request_id) in self._answered:
            yield "answered", "a request is answered a second time"
        self._answered.add((outcome.client, outcome.request_id))
        if (outcome.outcome == RELEASED) != bool(outcome.release_sha256):
            yield "intent", "an outcome that is neither a release nor a refusal"
        yield from self._charge(outcome)

    def _lift(self, policy: PolicyInForce) -> None:
        for due in self._due.values():
            due.lifted |= due.outcome.request_id in policy.lifted

    def _filed(self, filed: WarrantFiled) -> Iterator[tuple[str, str]]:
        due = self._due.get((filed.client, filed.request_id))
        if due is None or due.outcome.request_sha256 != filed.request_sha256:
            yield "intent", "a warrant for a release that needs none"
        else:
            due.filed = True

    def _revoked(self, revocation: Revocation) -> Iterator[tuple[str, str]]:
        due = self._due.get((revocation.client, revocation.request_id))
        if due is None or due.filed or due.revoked or not due.fits(revocation):
            yield "revoked", "a revocation of a release that is not provisional and overdue"
        else:
            due.revoked = True
            due.row.revoked += 1

    def _succession(self, new: Succession, signers: set[bytes]) -> Iterator[tuple[str, str]]:
        last = self._successions.get(new.key_epoch)
        self._successions[new.key_epoch] = new
        # A log that was begun later, or by another registrar, need not hold the earlier ones.
        follows = last is None or (last.sha256(), last.generation + 1) == (
            new.previous,
            new.generation,
        )
        if not follows:
            yield "succession", "a succession that does not follow the last one"
        if not {bytes.fromhex(key) for key in new.members} <= signers:
            yield "succession", "a succession that one of its members did not sign"

    def _amended(self, amendment: Amendment, signers: set[bytes]) -> Iterator[tuple[str, str]]:
        if self.rosters is None:
            return
        named = (amendment.pin.key_epoch, amendment.generation)
        enough = (
            len(signers & set(roster.members)) >= roster.threshold
            for roster in self.rosters
            if (roster.epoch, roster.generation.sha256) == named
        )
        if not any(enough):
            yield "amended", "an amendment that is not signed by k auditors of its key epoch"

    @staticmethod
    def _count(row: Row, outcome: Outcome) -> None:
        if outcome.outcome == RELEASED:
            row.released += 1
        else:
            row.refused += 1
        row.matches += outcome.matches
        row.compared += outcome.compared
        row.values_charged += outcome.values_charged
        row.provisional += bool(outcome.warrant_deadline)

    def _charge(self, outcome: Outcome) -> Iterator[tuple[str, str]]:
        epoch = self.epochs.setdefault(outcome.key_epoch, Epoch())
        epoch.total += outcome.values_charged
        if epoch.total != outcome.epoch_total:
            yield "total", f"epoch_total is {outcome.epoch_total}, the charges add to {epoch.total}"
        if epoch.total > epoch.budget:
            yield "budget", f"{epoch.total} values made visible, the budget is {epoch.budget}"


def _older(policy: PolicyInForce, before: PolicyInForce) -> bool:
    """Tell whether a policy takes the place of a newer one, or of another one of its serial."""
    same = policy.policy_sha256 == before.policy_sha256
    return policy.serial < before.serial or (policy.serial == before.serial and not same)


def _subject(statement: Intent | Outcome) -> tuple[str, ...]:
    return (
        statement.request_id,
        statement.request_sha256,
        statement.client,
        statement.purpose,
        statement.policy_sha256,
        statement.key_epoch,
    )
