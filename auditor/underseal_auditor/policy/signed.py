"""A policy takes effect with the signatures of k members of the key epoch, and not before. Pure.

All of them sign the same statement, :class:`PolicyApproval`. Their signatures are kept beside the
policy, in ``policy.toml.signatures``: one envelope, written as the log's entries are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from underseal_auditor.policy.document import Policy, load_policy
from underseal_core.errors import Damaged, InvalidInput, PermissionRefused
from underseal_core.log_entries import decode_entry, encode_entry
from underseal_core.oversight import PolicyApproval
from underseal_core.roster import Roster
from underseal_core.signing import (
    Envelope,
    Identity,
    Signature,
    signers_of,
)

SUFFIX: Final = ".signatures"
_HINT: Final = "sign it: underseal-auditor policy sign POLICY --bundle BUNDLE --credentials FOLDER"


def approving(roster: Roster, payload: bytes, signatures: Iterable[Signature]) -> frozenset[bytes]:
    """Return the members that validly signed a :class:`PolicyApproval` payload."""
    envelope = Envelope(PolicyApproval.payload_type, payload, tuple(signatures))
    return signers_of(envelope, roster.members)


@dataclass(frozen=True, slots=True)
class SignedPolicy:
    """A policy, and the envelope of the approval by at least k members. See :func:`signed`."""

    policy: Policy
    approval: PolicyApproval
    envelope: Envelope


def approval_of(policy: Policy, roster: Roster) -> PolicyApproval:
    """Return what members sign for this policy."""
    return PolicyApproval(
        policy_sha256=policy.sha256,
        policy_name=policy.document.name,
        serial=policy.document.serial,
        key_epoch=roster.epoch,
    )


def signed(policy: Policy, envelope: Envelope, roster: Roster) -> SignedPolicy:
    """Return the policy with its approval.

    Raises
    ------
    PermissionRefused
        Fewer than k members of this key epoch signed exactly this policy.
    InvalidInput
        Its budget is more than is safe with keys of so many members.
    """
    policy.check_members(len(roster.members))
    approval = approval_of(policy, roster)
    same = (envelope.payload_type, envelope.payload) == (approval.payload_type, approval.payload())
    if not same:
        raise PermissionRefused("the signatures are of another policy or key epoch", hint=_HINT)
    signers = approving(roster, envelope.payload, envelope.signatures)
    if len(signers) < roster.threshold:
        raise PermissionRefused(
            f"the policy is signed by {len(signers)} of the auditors, not by {roster.threshold}",
            hint=_HINT,
        )
    valid = tuple(s for s in envelope.signatures if s.public_key in signers)
    return SignedPolicy(policy, approval, Envelope(envelope.payload_type, envelope.payload, valid))


def countersign(
    policy: Policy, roster: Roster, identity: Identity, before: Envelope | None
) -> Envelope:
    """Return the envelope with one more signature; what was signed for another policy is dropped.

    Raises
    ------
    PermissionRefused
        The identity is no member's.
    InvalidInput
        The policy's budget is more than is safe with keys of so many members.
    """
    policy.check_members(len(roster.members))
    if identity.public_key not in roster.members:
        raise PermissionRefused(
            "this identity took no part in the ceremony of the bundle",
            hint="use the credentials that the ceremony used",
        )
    own = approval_of(policy, roster).sign(identity)
    kept: tuple[Signature, ...] = ()
    if before is not None and before.payload == own.payload:
        others = approving(roster, own.payload, before.signatures) - {identity.public_key}
        kept = tuple(s for s in before.signatures if s.public_key in others)
    return Envelope(own.payload_type, own.payload, kept + own.signatures)


def signatures_path(policy: Path) -> Path:
    """Return where the signatures of a policy file are."""
    return policy.with_name(policy.name + SUFFIX)


def load_signatures(policy: Path) -> Envelope | None:
    """Read the signatures beside a policy file; None if there are none yet.

    Raises
    ------
    InvalidInput
        The file is something else.
    """
    path = signatures_path(policy)
    try:
        return decode_entry(path.read_bytes().strip())
    except FileNotFoundError:
        return None
    except (OSError, Damaged) as error:
        raise InvalidInput(f"{path.name} is not a file of signatures") from error


def save_signatures(policy: Path, envelope: Envelope) -> None:
    """Write the signatures beside a policy file.

    Raises
    ------
    InvalidInput
        It cannot be written.
    """
    try:
        signatures_path(policy).write_bytes(encode_entry(envelope) + b"\n")
    except OSError as error:
        raise InvalidInput(f"cannot write {signatures_path(policy)}") from error


def load_signed(path: Path, roster: Roster) -> SignedPolicy:
    """Read a policy file and the signatures beside it.

    Raises
    ------
    InvalidInput
        See :func:`load_policy` and :func:`signed`.
    PermissionRefused
        See :func:`signed`.
    """
    policy, envelope = load_policy(path), load_signatures(path)
    if envelope is None:
        raise PermissionRefused("the policy is not signed", hint=_HINT)
    return signed(policy, envelope, roster)
