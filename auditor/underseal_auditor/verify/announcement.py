"""No log entry, no decryption: what a guardian demands before it opens its part. Pure.

intent       in the log, signed by a member of the ceremony, about exactly this submission
checkpoint   extends the one that the guardian saw last. A log that was rolled back or forked
             is refused, so every guardian is a witness of the log
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from underseal_auditor.policy.rules import CLOCK_SKEW
from underseal_auditor.verify.chain import Chain
from underseal_core.errors import Damaged
from underseal_core.log_entries import Intent, Logged
from underseal_core.log_evidence import check_intent
from underseal_core.statements import utc_moment
from underseal_core.tlog.checkpoint import open_checkpoint
from underseal_core.tlog.note import VerifierKey
from underseal_core.tlog.proof import Receipt
from underseal_core.tlog.verifier import check_consistency

_HINT = "open nothing for this registrar; tell the auditors and whoever watches its log"


@dataclass(frozen=True, slots=True)
class Notice:
    """Shows a guardian that an opening was announced.

    ``logged``: the intent with its receipt. ``extends``: 32-byte hashes, the proof that the
    receipt's checkpoint extends the one that the guardian remembers; empty if it remembers none.
    """

    logged: Logged
    extends: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Register:
    """Whose log it must be: its key, and the auditors of whom one signs every entry."""

    log: VerifierKey
    members: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Authority:
    """By what right something is opened: policy, keys, and the persons who approved it."""

    policy_sha256: str
    key_epoch: str
    approvers: tuple[str, ...] = ()


def intent_of(chain: Chain, authority: Authority, at: str) -> Intent:
    """Return the only intent that announces the opening of this result for this request."""
    request, snapshot = chain.request, chain.result.snapshot
    return Intent(
        request_id=request.request_id,
        request_sha256=chain.request_sha256,
        result_sha256=chain.result_sha256,
        client=request.client,
        purpose=request.purpose,
        server=chain.result.server,
        gallery=request.gallery,
        snapshot_version=snapshot.version,
        snapshot_root=snapshot.root,
        templates=snapshot.templates,
        ciphertexts=chain.openings,
        approvers=authority.approvers,
        policy_sha256=authority.policy_sha256,
        key_epoch=authority.key_epoch,
        at=at,
    )


def check_announced(
    logged: Logged,
    register: Register,
    chain: Chain,
    authority: Authority,
    now: datetime,
) -> None:
    """Check that this opening, under this policy and these keys, is in the log.

    Raises
    ------
    Damaged
        It is not, or the entry says something else in any field, or is from the future.
    PermissionRefused
        The receipt is of another log.
    """
    hashes = chain.request_sha256, chain.result_sha256
    intent = check_intent(logged, register.log, register.members, *hashes)
    if intent != intent_of(chain, authority, intent.at):
        raise Damaged("the logged intent says something else than the submission", hint=_HINT)
    if utc_moment(intent.at) > now + CLOCK_SKEW:
        raise Damaged("the logged intent is from the future", hint="check the clocks")


def check_extends(notice: Notice, log: VerifierKey, remembered: bytes) -> bytes:
    """Return the checkpoint of the notice's receipt, which extends the remembered one.

    Parameters
    ----------
    remembered
        The newest checkpoint that was shown before, or nothing.

    Raises
    ------
    Damaged
        The log was rolled back or forked since, or the proof is wrong.
    """
    shown = open_checkpoint(Receipt.parse(notice.logged.receipt).checkpoint, log)
    if remembered:
        old, new = open_checkpoint(remembered, log).checkpoint, shown.checkpoint
        try:
            check_consistency(old.size, new.size, notice.extends, old.root, new.root)
        except Damaged as error:
            raise Damaged(
                f"the log that is shown is another one: {error.public}", hint=_HINT
            ) from error
    return shown.raw
