"""What the transparency log holds: who may open what and why, and what came of it.

An entry is public for good. It holds ids, hashes, counts, purpose, times and charges; never a
score, a person's name, a template or a photo. The case reference is not in it either, since
people write names there: the request's hash commits to it, and the request's random id and probe
hash keep anyone from guessing it.

    Intent          before anything of a request is opened
    Outcome         after it: released or refused, and what it cost
    WarrantFiled    a warrant was filed for a provisional release
    Revocation      none was, in time
    Alarm           when a server was caught lying: nothing of its result was opened
    PolicyInForce   when the registrar starts with another policy or other keys than before
    Succession      when the key's shares were dealt anew, to the same members or to others
    Amendment       when k auditors erased templates from a unit (see ``amendment.py``)

An entry is the signed statement as canonical JSON (RFC 8785)::

    {"payload": {...}, "payloadType": "...", "signatures": [{"key": HEX, "signature": HEX}]}

What is signed is the DSSE encoding of the payload's own canonical bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, TypeVar

from pydantic import Field

from underseal_core.amendment import Amendment
from underseal_core.canonical import canonical_json
from underseal_core.errors import Damaged
from underseal_core.oversight import PolicyApproval, Serial
from underseal_core.signing import (
    Envelope,
    Signature,
    pre_authentication_encoding,
    verify_bytes,
)
from underseal_core.statements import Count, Id, Key, Name, Part, Sha256, Statement, Text, Time

MAX_ENTRY: Final = 16 << 10
"""Bytes; bounds the parser's work on hostile logs, as the log's own limit does."""

MAX_SIGNATURES: Final = 32
_FIELDS: Final = {"payload", "payloadType", "signatures"}
_SIGNATURE_FIELDS: Final = {"key", "signature"}

RELEASED: Final = "released"
REFUSED: Final = "refused"


class Intent(Statement):
    """The registrar is about to open ``ciphertexts`` ciphertexts for this request.

    ``approvers``: the persons who approved that, if the policy asks for any.
    """

    payload_type: ClassVar[str] = "application/vnd.underseal.log-intent.v1+json"

    request_id: Id
    request_sha256: Sha256
    result_sha256: Sha256
    client: Name
    purpose: Name
    server: Name
    gallery: Name
    snapshot_version: Count
    snapshot_root: Sha256
    templates: Count
    ciphertexts: Count
    approvers: tuple[Name, ...] = ()
    policy_sha256: Sha256
    key_epoch: Sha256
    at: Time


class Outcome(Statement):
    """What came of an intent.

    ``release_sha256`` is the hash of the release's payload; empty when it was refused. A refusal
    names no rule: the rule would tell its client what the auditors saw. ``epoch_total`` includes
    ``values_charged``.
    """

    payload_type: ClassVar[str] = "application/vnd.underseal.log-outcome.v1+json"

    intent_sha256: Sha256
    request_id: Id
    request_sha256: Sha256
    client: Name
    purpose: Name
    outcome: Literal["released", "refused"]
    release_sha256: Sha256 | Literal[""]
    matches: Count
    compared: Count
    values_charged: Count
    epoch_total: Count
    warrant_deadline: Time | Literal[""] = ""
    policy_sha256: Sha256
    key_epoch: Sha256
    at: Time


class WarrantFiled(Statement):
    """A client filed a warrant for a provisional release; the log has its hash only."""

    payload_type: ClassVar[str] = "application/vnd.underseal.log-warrant.v1+json"

    request_id: Id
    request_sha256: Sha256
    client: Name
    purpose: Name
    warrant_sha256: Sha256
    at: Time


class Revocation(Statement):
    """A provisional release whose deadline passed without a warrant does not hold any more."""

    payload_type: ClassVar[str] = "application/vnd.underseal.log-revocation.v1+json"

    request_id: Id
    request_sha256: Sha256
    client: Name
    purpose: Name
    release_sha256: Sha256
    warrant_deadline: Time
    at: Time


class MemberSignature(Part):
    """One member's Ed25519 signature of a :class:`PolicyApproval`, in hex."""

    key: Key
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class PolicyInForce(Statement):
    """From here on this policy and these keys hold. ``budget``: values of the key epoch.

    ``signatures`` are those of :meth:`approval`, by k members of the key epoch. ``lifted``:
    requests whose missing warrant does not suspend their client any more.
    """

    payload_type: ClassVar[str] = "application/vnd.underseal.log-policy.v1+json"

    policy_sha256: Sha256
    policy_name: Text
    serial: Serial
    key_epoch: Sha256
    profile: Name
    budget: Count
    signatures: Annotated[tuple[MemberSignature, ...], Field(max_length=MAX_SIGNATURES)]
    lifted: tuple[Id, ...] = ()
    at: Time

    def approval(self) -> PolicyApproval:
        """Return what the members signed."""
        return PolicyApproval(
            policy_sha256=self.policy_sha256,
            policy_name=self.policy_name,
            serial=self.serial,
            key_epoch=self.key_epoch,
        )

    def member_signatures(self) -> tuple[Signature, ...]:
        """Return the signatures as bytes; they are not verified here."""
        pairs = ((bytes.fromhex(s.key), bytes.fromhex(s.signature)) for s in self.signatures)
        return tuple(Signature(key, signature) for key, signature in pairs)


def policy_in_force(
    approval: PolicyApproval,
    signatures: Sequence[Signature],
    *,
    profile: str,
    budget: int,
    at: str,
    lifted: tuple[str, ...] = (),
) -> PolicyInForce:
    """Return the entry for a policy that k members approved."""
    return PolicyInForce(
        policy_sha256=approval.policy_sha256,
        policy_name=approval.policy_name,
        serial=approval.serial,
        key_epoch=approval.key_epoch,
        profile=profile,
        budget=budget,
        signatures=tuple(
            MemberSignature(key=s.public_key.hex(), signature=s.signature.hex()) for s in signatures
        ),
        lifted=lifted,
        at=at,
    )


class Succession(Statement):
    """The shares of a key epoch were dealt anew: from here on these members hold them.

    Signed by every new member once it has its share of this generation on disk. ``members``: their
    keys, by point; ``dealers``: points of the k members of the generation before who dealt, and
    stayed. ``previous``: hash of the succession before, or the key epoch. ``transcript``: hash of
    all messages of the re-sharing.
    """

    payload_type: ClassVar[str] = "application/vnd.underseal.succession.v1+json"

    key_epoch: Sha256
    generation: Annotated[int, Field(ge=1, le=2**31 - 1)]
    previous: Sha256
    members: Annotated[tuple[Key, ...], Field(min_length=1, max_length=32)]
    dealers: tuple[Annotated[int, Field(ge=1, le=32)], ...]
    transcript: Sha256


class Alarm(Statement):
    """A server was caught: it signed ``result_sha256``, which breaks ``rule``.

    Nothing of it was opened. The auditors trust nothing that this server signs until they lift it.
    """

    payload_type: ClassVar[str] = "application/vnd.underseal.log-alarm.v1+json"

    server: Name
    rule: Name
    request_id: Id
    request_sha256: Sha256
    result_sha256: Sha256
    client: Name
    gallery: Name
    key_epoch: Sha256
    at: Time


LogStatement = (
    Alarm | Amendment | Intent | Outcome | PolicyInForce | Succession | WarrantFiled | Revocation
)
S = TypeVar(
    "S", Alarm, Amendment, Intent, Outcome, PolicyInForce, Succession, WarrantFiled, Revocation
)

_KINDS: Final[dict[str, type[LogStatement]]] = {
    kind.payload_type: kind
    for kind in (
        Alarm,
        Amendment,
        Intent,
        Outcome,
        PolicyInForce,
        Succession,
        WarrantFiled,
        Revocation,
    )
}


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry's bytes, and its offline receipt (``tlog-proof``) as a file's bytes."""

    entry: bytes
    receipt: bytes


def encode_entry(envelope: Envelope) -> bytes:
    """Return a signed statement as the log's entry."""
    return canonical_json(
        {
            "payload": json.loads(envelope.payload),
            "payloadType": envelope.payload_type,
            "signatures": [
                {"key": entry.public_key.hex(), "signature": entry.signature.hex()}
                for entry in envelope.signatures
            ],
        }
    )


def decode_entry(entry: bytes) -> Envelope:
    """Return the signed statement of an entry; its signatures are not verified here.

    Raises
    ------
    Damaged
        Too long, not canonical, or not an entry.
    """
    if len(entry) > MAX_ENTRY:
        raise Damaged("a log entry is too long")
    try:
        value = json.loads(entry)
        if canonical_json(value) != entry:
            raise Damaged("a log entry is not canonical JSON")
    except (ValueError, RecursionError) as error:
        raise Damaged("a log entry is not canonical JSON") from error
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise Damaged("a log entry is no signed statement")
    kind, signatures = value["payloadType"], value["signatures"]
    if not isinstance(kind, str) or not isinstance(signatures, list):
        raise Damaged("a log entry is no signed statement")
    if not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise Damaged("a log entry has no signature or too many")
    read = tuple(_signature(signature) for signature in signatures)
    return Envelope(kind, canonical_json(value["payload"]), read)


def _signature(value: object) -> Signature:
    if not isinstance(value, dict) or value.keys() != _SIGNATURE_FIELDS:
        raise Damaged("a log entry has a malformed signature")
    try:
        signature = Signature(bytes.fromhex(value["key"]), bytes.fromhex(value["signature"]))
    except (TypeError, ValueError) as error:
        raise Damaged("a log entry has a malformed signature") from error
    written = (signature.public_key.hex(), signature.signature.hex())
    if (len(signature.public_key), len(signature.signature)) != (32, 64) or written != (
        value["key"],
        value["signature"],
    ):
        raise Damaged("a log entry has a malformed signature")
    return signature


def open_entry(entry: bytes, members: frozenset[bytes] | None = None) -> LogStatement:
    """Return an entry's statement after checking its signatures, all of them.

    Parameters
    ----------
    members
        Keys of which at least one must have signed; None asks for any key.

    Raises
    ------
    Damaged
        Not an entry of a known kind, or a signature is not valid.
    """
    envelope = decode_entry(entry)
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    if not all(verify_bytes(s.public_key, s.signature, message) for s in envelope.signatures):
        raise Damaged("a signature of a log entry is not valid")
    if members is not None and not any(s.public_key in members for s in envelope.signatures):
        raise Damaged("a log entry is not signed by an auditor of these keys")
    kind = _KINDS.get(envelope.payload_type)
    if kind is None:
        raise Damaged("a log entry is of an unknown kind")
    return kind.parse(envelope.payload)


def open_entry_as(kind: type[S], entry: bytes, members: frozenset[bytes] | None = None) -> S:
    """Return an entry's statement, which must be of this kind.

    Raises
    ------
    Damaged
        See :func:`open_entry`; also when it is of another kind.
    """
    statement = open_entry(entry, members)
    if not isinstance(statement, kind):
        raise Damaged(f"the log entry is not of the kind {kind.__name__}")
    return statement
