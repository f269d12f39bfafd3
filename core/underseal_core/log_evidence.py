"""No log entry, no decryption, no release: the checks, for guardians and clients. Pure.

A guardian calls :func:`check_intent` before it opens anything; a client calls
:func:`check_evidence` before it believes a release. Both work offline, with a log key that they
knew beforehand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from underseal_core.errors import Damaged, PermissionRefused
from underseal_core.log_entries import (
    RELEASED,
    Intent,
    Logged,
    Outcome,
    Revocation,
    WarrantFiled,
    open_entry_as,
)
from underseal_core.oversight import Warrant
from underseal_core.signing import Envelope
from underseal_core.statements import Release
from underseal_core.tlog.checkpoint import SignedCheckpoint
from underseal_core.tlog.note import VerifierKey
from underseal_core.tlog.proof import Receipt, verify_receipt

_HINT = "trust nothing in it; tell the auditors and whoever watches their log"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What comes with a release: its intent and its outcome, as logged; also its revocation.

    ``witnessed``: receipts of the outcome under checkpoints that witnesses cosigned afterwards.
    """

    intent: Logged
    outcome: Logged
    revocation: Logged | None = None
    witnessed: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class LogProof:
    """What was proved: places of both entries, and the checkpoints that cover them.

    ``outcome_checkpoint`` is the larger one or equal. A ``revocation`` says that the release does
    not hold any more.
    """

    intent_index: int
    outcome_index: int
    intent_checkpoint: SignedCheckpoint
    outcome_checkpoint: SignedCheckpoint
    revocation: Revocation | None = None


@dataclass(frozen=True, slots=True)
class _Proved:
    index: int
    signed: SignedCheckpoint


def _prove(logged: Logged, log: VerifierKey, witnesses: Sequence[VerifierKey] = ()) -> _Proved:
    try:
        receipt = Receipt.parse(logged.receipt)
        return _Proved(receipt.index, verify_receipt(receipt, logged.entry, log, witnesses))
    except Damaged as error:
        raise Damaged(f"the log receipt is not valid: {error.public}", hint=_HINT) from error
    except PermissionRefused as error:
        raise PermissionRefused(
            f"the log receipt is not valid: {error.public}",
            hint="is the log key the auditors' own? If it is: " + _HINT,
        ) from error


def check_intent(
    logged: Logged,
    log: VerifierKey,
    members: frozenset[bytes],
    request_sha256: str,
    result_sha256: str,
) -> Intent:
    """Check that opening this result for this request was announced in the log.

    Parameters
    ----------
    members
        Keys of the auditors; one of them must have signed the intent.

    Raises
    ------
    Damaged
        No such entry in the log, or of another request or result.
    PermissionRefused
        The receipt is of another log.
    """
    _prove(logged, log)
    intent = open_entry_as(Intent, logged.entry, members)
    if (intent.request_sha256, intent.result_sha256) != (request_sha256, result_sha256):
        raise Damaged("the logged intent is of another request", hint=_HINT)
    return intent


def check_evidence(
    evidence: Evidence, envelope: Envelope, log: VerifierKey, members: Sequence[bytes]
) -> LogProof:
    """Check that a release was announced and recorded in the log, truthfully.

    Parameters
    ----------
    envelope
        The signed release; its signatures have been checked.

    Raises
    ------
    Damaged
        A receipt is missing or wrong, or the entries say something else than the release.
    PermissionRefused
        The receipts are of another log.
    """
    if not evidence.intent.receipt or not evidence.outcome.receipt:
        raise Damaged("the release came without its log receipts", hint=_HINT)
    release = Release.parse(envelope.payload)
    keys = frozenset(members)
    intent = check_intent(evidence.intent, log, keys, release.request_sha256, release.result_sha256)
    outcome = open_entry_as(Outcome, evidence.outcome.entry, keys)
    _check_same(intent, outcome, release, hashlib.sha256(envelope.payload).hexdigest())
    first, second = _prove(evidence.intent, log), _prove(evidence.outcome, log)
    sizes = first.signed.checkpoint.size, second.signed.checkpoint.size
    if first.index >= second.index or sizes[0] > second.index:
        raise Damaged("the release was opened before its intent was logged", hint=_HINT)
    revoked = _revocation(evidence.revocation, log, keys, release)
    return LogProof(first.index, second.index, first.signed, second.signed, revoked)


def check_witnessed(
    evidence: Evidence, log: VerifierKey, witnesses: Sequence[VerifierKey]
) -> tuple[SignedCheckpoint, ...]:
    """Check that a release's outcome is in the log that these witnesses have seen.

    Returns
    -------
    tuple of SignedCheckpoint
        Those that at least one of them has cosigned; empty if none has come by since.

    Raises
    ------
    Damaged, PermissionRefused
        A receipt, or the cosignature of one of them, is not valid.
    """
    entry = evidence.outcome.entry
    receipts = (Logged(entry, receipt) for receipt in evidence.witnessed)
    proved = [_prove(logged, log, witnesses).signed for logged in receipts]
    return tuple(signed for signed in proved if signed.witnessed)


def _revocation(
    logged: Logged | None, log: VerifierKey, members: frozenset[bytes], release: Release
) -> Revocation | None:
    if logged is None:
        return None
    _prove(logged, log)
    revocation = open_entry_as(Revocation, logged.entry, members)
    if (revocation.request_id, revocation.release_sha256) != (release.request_id, release.sha256()):
        raise Damaged("the logged revocation is of another release", hint=_HINT)
    return revocation


def check_filed(
    logged: Logged, log: VerifierKey, members: Sequence[bytes], warrant: Warrant
) -> WarrantFiled:
    """Check that a warrant is in the log.

    Raises
    ------
    Damaged, PermissionRefused
        It is not.
    """
    _prove(logged, log)
    filed = open_entry_as(WarrantFiled, logged.entry, frozenset(members))
    if (filed.request_id, filed.warrant_sha256) != (warrant.request_id, warrant.sha256()):
        raise Damaged("the log has another warrant", hint=_HINT)
    return filed


def _check_same(intent: Intent, outcome: Outcome, release: Release, sha256: str) -> None:
    announced: tuple[object, ...] = (
        intent.request_id,
        intent.client,
        intent.purpose,
        intent.key_epoch,
        intent.approvers,
    )
    wanted = (release.request_id, release.client, release.purpose, release.key_epoch)
    recorded = (
        outcome.intent_sha256,
        outcome.release_sha256,
        outcome.outcome,
        outcome.request_sha256,
        outcome.matches,
        outcome.compared,
        outcome.values_charged,
        outcome.epoch_total,
        outcome.warrant_deadline,
    )
    true = (
        intent.sha256(),
        sha256,
        RELEASED,
        release.request_sha256,
        len(release.matches),
        release.compared,
        release.values_charged,
        release.epoch_total,
        release.warrant_deadline,
    )
    names = (outcome.request_id, outcome.client, outcome.purpose, outcome.key_epoch)
    policies = {intent.policy_sha256, outcome.policy_sha256, release.policy_sha256}
    if (announced, names, recorded) != ((*wanted, release.approvers), wanted, true) or len(
        policies
    ) != 1:
        raise Damaged("the log says something else than the release", hint=_HINT)
