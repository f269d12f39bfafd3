"""A release counts only when the auditors' log has it, and the log only grew since last time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from underseal_client import wire
from underseal_client.connection import REGISTRAR
from underseal_core.errors import Busy, Damaged, UndersealError
from underseal_core.log_evidence import check_evidence, check_witnessed
from underseal_core.tlog.checkpoint import open_checkpoint
from underseal_core.tlog.verifier import check_consistency

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from underseal_client.context import ClientContext
    from underseal_client.records import Delivered
    from underseal_client.resume import ClientState
    from underseal_core.log_evidence import Evidence
    from underseal_core.statements import Release
    from underseal_core.tlog.checkpoint import SignedCheckpoint
    from underseal_core.tlog.note import VerifierKey

    Prove = Callable[[int, int], tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class InLog:
    """Where a release is in the log, verified.

    ``size``: entries of the log that are known to hold this and everything seen before.
    ``revoked_at``: UTC; the release does not hold any more, because no warrant was filed in time.
    ``witnessed_by``: names of the witnesses that have cosigned a log with it; None where the
    settings name no witness.
    """

    origin: str
    intent_index: int
    outcome_index: int
    size: int
    evidence: Evidence
    revoked_at: str = ""
    witnessed_by: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Whose cosignatures count, and how many of them a release must have."""

    keys: tuple[VerifierKey, ...] = ()
    quorum: int = 0

    def demand(self, seen: Sequence[SignedCheckpoint]) -> tuple[str, ...] | None:
        """Return who cosigned one of these checkpoints, sorted; None if nobody is asked for.

        Raises
        ------
        Busy
            Fewer than ``quorum`` have.
        """
        # A cosignature does not hold the witness's name: count keys, not names.
        found = {key.public_key: key.name for signed in seen for key in signed.witnessed}
        if len(found) < self.quorum:
            raise Busy(
                f"the release is in the log, but {len(found)} of the {self.quorum} witnesses"
                " that it takes have seen it there",
                hint="ask again when the witnesses have come by, in a minute or so; if it stays"
                " so, the log shows you another history than them: ask them, tell the auditors",
            )
        return tuple(sorted(found.values())) if self.keys else None


NOBODY: Final = Witnesses()


def check_logged(
    context: ClientContext, delivered: Delivered, release: Release, *, witnessed: bool
) -> InLog:
    """Check a release against log and witnesses of the settings; see :func:`believe`.

    ``witnessed``: demand the quorum. A release that was just made cannot have it.
    """
    witnesses = context.witnesses
    return believe(
        delivered,
        context.log_key,
        context.roster_of(release.key_epoch).members,
        context.state,
        lambda old, new: _ask(context, old, new),
        witnesses if witnessed else replace(witnesses, quorum=0),
    )


def believe(
    delivered: Delivered,
    key: VerifierKey,
    members: Sequence[bytes],
    state: ClientState,
    prove: Prove,
    witnesses: Witnesses = NOBODY,
) -> InLog:
    """Check receipts offline, then that the log extends every checkpoint seen before.

    Parameters
    ----------
    key
        The log's, known beforehand.
    members
        Keys of the auditors.
    prove
        Asks the log for the consistency proof of two sizes.
    witnesses
        Who must have seen the release in the log.

    Raises
    ------
    Damaged
        No valid receipts, or the log was rolled back or forked.
    PermissionRefused
        The receipts are of another log.
    Busy
        Too few witnesses have seen it so far.
    """
    evidence = delivered.evidence
    proof = check_evidence(evidence, delivered.release, key, members)
    seen = check_witnessed(evidence, key, witnesses.keys) if witnesses.keys else ()
    shown = [proof.intent_checkpoint, proof.outcome_checkpoint, *seen]
    size = follow(state, key, shown, prove)
    return InLog(
        origin=key.name,
        intent_index=proof.intent_index,
        outcome_index=proof.outcome_index,
        size=size,
        evidence=evidence,
        revoked_at="" if proof.revocation is None else proof.revocation.at,
        witnessed_by=witnesses.demand(seen),
    )


def follow(
    state: ClientState, key: VerifierKey, shown: list[SignedCheckpoint], prove: Prove
) -> int:
    """Check that checkpoints and the newest one remembered are of one history; remember it.

    Parameters
    ----------
    shown
        Verified checkpoints of the log with this key.
    prove
        Asks the log for the consistency proof of two sizes.

    Returns
    -------
    int
        The size of the newest of all.

    Raises
    ------
    Damaged
        They contradict each other; both are kept.
    """
    while True:
        remembered = state.log_seen(key.vkey())
        newest = _one_history(state, key, remembered, shown, prove)
        # Another search may have been shown something else meanwhile: then that counts as well.
        if state.see_log(key.vkey(), remembered, newest.raw):
            return newest.checkpoint.size


def _one_history(
    state: ClientState,
    key: VerifierKey,
    remembered: bytes,
    shown: list[SignedCheckpoint],
    prove: Prove,
) -> SignedCheckpoint:
    """Return the newest of all checkpoints after checking each against the one before it."""
    known = [open_checkpoint(remembered, key)] if remembered else []
    history = sorted([*known, *shown], key=lambda signed: signed.checkpoint.size)
    for old, new in pairwise(history):
        try:
            _check_pair(old, new, prove)
        except Damaged:
            state.keep_conflict(key.vkey(), old.raw, new.raw)
            raise
    return history[-1]


def _check_pair(old: SignedCheckpoint, new: SignedCheckpoint, prove: Prove) -> None:
    first, second = old.checkpoint, new.checkpoint
    path = () if first.size == second.size else prove(first.size, second.size)
    try:
        check_consistency(first.size, second.size, path, first.root, second.root)
    except Damaged as error:
        raise Damaged(
            f"the auditors' log was rolled back or forked: {error.public}",
            hint="trust nothing in this release; both checkpoints are kept in the state file",
        ) from error


def _ask(context: ClientContext, old: int, new: int) -> tuple[bytes, ...]:
    """Return the registrar's proof; one that it cannot give is no proof."""
    connection = context.connection
    request = wire.consistency_to_wire(old, new)
    method = connection.log.GetConsistency
    try:
        answer = connection.ask(method, request, peer=REGISTRAR, repeat=True)
    except Busy:
        raise
    except UndersealError as error:
        raise Damaged(
            f"the auditors' log was rolled back or forked: it does not extend the {old} entries"
            " that it had before",
            hint="trust nothing in this release; both checkpoints are kept in the state file",
        ) from error
    return wire.consistency_from_wire(answer)
