"""A release counts only when the auditors' log has it, and the log only grew since last time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from underseal_client import wire
from underseal_client.connection import REGISTRAR
from underseal_core.errors import Busy, Damaged, UndersealError
from underseal_core.log_evidence import check_evidence
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
    """

    origin: str
    intent_index: int
    outcome_index: int
    size: int
    evidence: Evidence
    revoked_at: str = ""


def check_logged(context: ClientContext, delivered: Delivered, release: Release) -> InLog:
    """Check a release against the log of the settings; see :func:`believe`."""
    return believe(
        delivered,
        context.log_key,
        context.roster_of(release.key_epoch).members,
        context.state,
        lambda old, new: _ask(context, old, new),
    )


def believe(
    delivered: Delivered,
    key: VerifierKey,
    members: Sequence[bytes],
    state: ClientState,
    prove: Prove,
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

    Raises
    ------
    Damaged
        No valid receipts, or the log was rolled back or forked.
    PermissionRefused
        The receipts are of another log.
    """
    evidence = delivered.evidence
    proof = check_evidence(evidence, delivered.release, key, members)
    shown = [proof.intent_checkpoint, proof.outcome_checkpoint]
    size = follow(state, key, shown, prove)
    revoked_at = "" if proof.revocation is None else proof.revocation.at
    return InLog(key.name, proof.intent_index, proof.outcome_index, size, evidence, revoked_at)


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
