"""Between protobuf messages and the domain; ``from_wire`` functions check every length and range.

The only place of this role, beside servicers and connections, that knows generated code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final

from pydantic import ValidationError

from underseal_auditor.guardian import Dossier
from underseal_auditor.guardianship import Summons
from underseal_auditor.keys.joint_opening import ZeroCommitment
from underseal_auditor.keys.messages import SALT_BYTES, CeremonyFailed, Commitment, Reveal
from underseal_auditor.keys.signed import SignedCommitment
from underseal_auditor.panel import GuardianFacts
from underseal_auditor.policy.approvals import MAX_APPROVALS
from underseal_auditor.store.tested import MAX_LISTED
from underseal_auditor.verify.announcement import Notice
from underseal_auditor.verify.chain import Place
from underseal_auditor.verify.fault import Rule, ServerFault
from underseal_core.bundle import MAX_MEMBERS
from underseal_core.errors import Damaged, InvalidInput
from underseal_core.log_entries import MAX_ENTRY, Logged
from underseal_core.log_evidence import Evidence
from underseal_core.provenance import Origin
from underseal_core.scheme.ciphertext import Kind
from underseal_core.signing import Envelope, Signature
from underseal_core.statements import Pin
from underseal_core.tlog.note import MAX_NOTE
from underseal_core.tlog.proof import MAX_HASHES
from underseal_proto.v1 import (
    ceremony_pb2,
    common_pb2,
    guardian_pb2,
    registrar_pb2,
    search_pb2,
)

MAX_SIGNATURES: Final = 32
"""As many as there can be auditors: bounds the work that one envelope can cause."""

ID_BYTES: Final = 16
HASH_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
MAX_VERSION: Final = 2**53 - 1

_KINDS: Final = {
    search_pb2.SealedCiphertext.KIND_RESULT: Kind.RESULT,
    search_pb2.SealedCiphertext.KIND_NORM: Kind.NORM,
    search_pb2.SealedCiphertext.KIND_PROBE: Kind.PROBE_ROW,
}


def envelope_to_wire(envelope: Envelope) -> common_pb2.Envelope:
    """Return the message for an envelope."""
    return common_pb2.Envelope(
        payload_type=envelope.payload_type,
        payload=envelope.payload,
        signatures=[
            common_pb2.Signature(public_key=s.public_key, signature=s.signature)
            for s in envelope.signatures
        ],
    )


def envelope_from_wire(message: common_pb2.Envelope) -> Envelope:
    """Return the envelope; signatures are not verified here.

    Raises
    ------
    InvalidInput
        No or too many signatures, or one of another length.
    """
    if not 1 <= len(message.signatures) <= MAX_SIGNATURES:
        raise InvalidInput("a statement must carry between 1 and 32 signatures")
    signatures = tuple(Signature(s.public_key, s.signature) for s in message.signatures)
    if any(len(s.public_key) != 32 or len(s.signature) != 64 for s in signatures):
        raise InvalidInput("a signature of a statement has the wrong length")
    return Envelope(message.payload_type, message.payload, signatures)


def logged_to_wire(logged: Logged) -> common_pb2.LoggedEntry:
    """Return the message for a log entry with its receipt."""
    return common_pb2.LoggedEntry(entry=logged.entry, receipt=logged.receipt)


def origin_to_wire(origin: Origin) -> registrar_pb2.MatchOrigin:
    """Return the message for where a released template comes from."""
    return registrar_pb2.MatchOrigin(
        receipt=envelope_to_wire(origin.receipt),
        place=origin.place,
        path=origin.path,
        label_sha256=origin.label_sha256,
    )


def evidence_to_wire(evidence: Evidence) -> registrar_pb2.LogEvidence:
    """Return the message for a release's log entries and receipts."""
    intent, outcome = logged_to_wire(evidence.intent), logged_to_wire(evidence.outcome)
    revocation = None if evidence.revocation is None else logged_to_wire(evidence.revocation)
    return registrar_pb2.LogEvidence(
        intent=intent, outcome=outcome, revocation=revocation, witnessed=evidence.witnessed
    )


def header_from_wire(message: registrar_pb2.SubmitRequest) -> tuple[Envelope, Envelope]:
    """Return request and result of a submission's first message.

    Raises
    ------
    InvalidInput
        It is not a header.
    """
    if message.WhichOneof("part") != "header":
        raise InvalidInput("a submission begins with its header")
    header = message.header
    return envelope_from_wire(header.request), envelope_from_wire(header.result)


def sealed_from_wire(message: registrar_pb2.SubmitRequest) -> tuple[Kind, int, bytes]:
    """Return kind, block and bytes of a later message; the bytes are not parsed here.

    Raises
    ------
    InvalidInput
        It is not a ciphertext.
    """
    if message.WhichOneof("part") != "sealed":
        raise InvalidInput("after the header a submission holds ciphertexts only")
    kind = _KINDS.get(message.sealed.kind)
    if kind is None:
        raise InvalidInput("a ciphertext of a submission has no known kind")
    return kind, message.sealed.block, message.sealed.ciphertext


def pin_from_wire(message: common_pb2.Pin) -> Pin:
    """Return a server's statement of what a gallery is pinned to.

    Raises
    ------
    Damaged
        The server stated something impossible.
    """
    try:
        return Pin(
            model_id=message.model_id,
            model_dimension=message.model_dimension,
            profile=message.profile,
            key_epoch=message.key_epoch,
        )
    except ValidationError as error:
        raise Damaged("the server states an impossible pin") from error


def round_from_wire(number: int, rounds: type[IntEnum]) -> IntEnum:
    """Return one of a protocol's rounds.

    Raises
    ------
    InvalidInput
        There is no such round.
    """
    try:
        return rounds(number)
    except ValueError:
        raise InvalidInput("there is no such round") from None


def commitment_to_wire(signed: SignedCommitment) -> ceremony_pb2.GetCommitmentResponse:
    """Return the message for a member's own commitment."""
    return ceremony_pb2.GetCommitmentResponse(
        digest=signed.commitment.digest, signature=signed.signature
    )


def commitment_from_wire(
    message: ceremony_pb2.GetCommitmentResponse, round_: IntEnum, sender: int
) -> SignedCommitment:
    """Return a member's commitment; its signature is not verified here.

    Raises
    ------
    CeremonyFailed
        A field of another length.
    """
    if len(message.digest) != HASH_BYTES or len(message.signature) != SIGNATURE_BYTES:
        raise CeremonyFailed(f"the commitment of member {sender} is malformed")
    return SignedCommitment(Commitment(round_, sender, message.digest), message.signature)


def reveal_from_wire(
    pieces: Iterable[ceremony_pb2.GetRevealResponse], round_: IntEnum, sender: int, limit: int
) -> Reveal:
    """Return a member's message; it is not compared with the commitment here.

    Parameters
    ----------
    limit
        Bytes of the longest payload of this round; reading stops beyond.

    Raises
    ------
    CeremonyFailed
        Too long, or without a salt.
    """
    content = bytearray()
    for message in pieces:
        content += message.piece
        if len(content) > SALT_BYTES + limit:
            raise CeremonyFailed(f"the message of member {sender} is too long")
    if len(content) < SALT_BYTES:
        raise CeremonyFailed(f"the message of member {sender} is malformed")
    return Reveal(round_, sender, bytes(content[:SALT_BYTES]), bytes(content[SALT_BYTES:]))


def zeros_to_wire(commitment: ZeroCommitment) -> guardian_pb2.ZeroCommitment:
    """Return the message for a commitment to encryptions of zero."""
    return guardian_pb2.ZeroCommitment(
        point=commitment.point, digest=commitment.digest, signature=commitment.signature
    )


def zeros_from_wire(message: guardian_pb2.ZeroCommitment) -> ZeroCommitment:
    """Return a commitment to encryptions of zero; its signature is not verified here.

    Raises
    ------
    InvalidInput
        A field out of its range.
    """
    sound = (
        1 <= message.point <= MAX_MEMBERS
        and len(message.digest) == HASH_BYTES
        and len(message.signature) == SIGNATURE_BYTES
    )
    if not sound:
        raise InvalidInput("a commitment of an opening is malformed")
    return ZeroCommitment(message.point, message.digest, message.signature)


def commitments_from_wire(
    messages: Sequence[guardian_pb2.ZeroCommitment],
) -> tuple[ZeroCommitment, ...]:
    """Return all commitments of an opening.

    Raises
    ------
    InvalidInput
        Too many, or one is malformed.
    """
    if len(messages) > MAX_MEMBERS:
        raise InvalidInput("an opening has more commitments than there can be guardians")
    return tuple(zeros_from_wire(message) for message in messages)


def session_from_wire(session: bytes) -> bytes:
    """Return an opening's session id.

    Raises
    ------
    InvalidInput
        Wrong length.
    """
    if len(session) != ID_BYTES:
        raise InvalidInput("an opening's session has 16 bytes")
    return session


def opening_header_to_wire(
    dossier: Dossier, active: Sequence[int], extends: Sequence[bytes], generation: str
) -> guardian_pb2.OpeningHeader:
    """Return an opening's first message."""
    return guardian_pb2.OpeningHeader(
        request=envelope_to_wire(dossier.request),
        result=envelope_to_wire(dossier.result),
        active=active,
        intent=logged_to_wire(dossier.intent),
        log_extends=extends,
        approvals=[envelope_to_wire(approval) for approval in dossier.approvals],
        generation=generation,
    )


def opening_header_from_wire(message: guardian_pb2.BeginOpeningRequest) -> Summons:
    """Return what an opening's first message asks for.

    Raises
    ------
    InvalidInput
        It is not a header, names too many guardians, or a field is too long.
    """
    if message.WhichOneof("part") != "header":
        raise InvalidInput("an opening begins with its header")
    header = message.header
    if len(header.active) > MAX_MEMBERS:
        raise InvalidInput("an opening names more guardians than there can be")
    if len(header.approvals) > MAX_APPROVALS:
        raise InvalidInput("an opening has more approvals than can matter")
    if len(header.log_extends) > MAX_HASHES or any(
        len(h) != HASH_BYTES for h in header.log_extends
    ):
        raise InvalidInput("an opening's proof of the log is malformed")
    if len(header.intent.entry) > MAX_ENTRY or len(header.intent.receipt) > 2 * MAX_NOTE:
        raise InvalidInput("an opening's intent is too long")
    logged = Logged(header.intent.entry, header.intent.receipt)
    return Summons(
        envelope_from_wire(header.request),
        envelope_from_wire(header.result),
        tuple(header.active),
        Notice(logged, tuple(header.log_extends)),
        header.generation,
        tuple(envelope_from_wire(approval) for approval in header.approvals),
    )


def opening_sealed_from_wire(
    message: guardian_pb2.BeginOpeningRequest,
) -> tuple[Kind, int, bytes]:
    """Return kind, block and bytes of a later message of an opening; see `sealed_from_wire`."""
    if message.WhichOneof("part") != "sealed":
        raise InvalidInput("after the header an opening holds ciphertexts only")
    place = place_from_wire(message.sealed.kind, message.sealed.block)
    return place.kind, place.block, message.sealed.ciphertext


def place_from_wire(kind: search_pb2.SealedCiphertext.Kind.ValueType, block: int) -> Place:
    """Return where a ciphertext belongs.

    Raises
    ------
    InvalidInput
        No known kind.
    """
    found = _KINDS.get(kind)
    if found is None:
        raise InvalidInput("a ciphertext of an opening has no known kind")
    return Place(found, block)


def kind_to_wire(kind: Kind) -> search_pb2.SealedCiphertext.Kind.ValueType:
    """Return the wire's number of a kind that submissions hold."""
    return next(number for number, known in _KINDS.items() if known is kind)


def place_to_wire(place: Place, ciphertext: bytes) -> search_pb2.SealedCiphertext:
    """Return the message for one ciphertext."""
    return search_pb2.SealedCiphertext(
        kind=kind_to_wire(place.kind), block=place.block, ciphertext=ciphertext
    )


def facts_from_wire(message: guardian_pb2.GetGuardianResponse) -> GuardianFacts:
    """Return what a guardian says about itself; the caller compares it with what it expects."""
    return GuardianFacts(
        message.point,
        message.key_epoch,
        message.policy_sha256,
        message.log_size,
        message.generation,
        tuple((one.client, one.request_id) for one in message.abandoned[:MAX_LISTED]),
    )


def fault_from_wire(rule: str) -> ServerFault:
    """Return the error of a guardian that caught the server.

    Raises
    ------
    Damaged
        There is no such rule.
    """
    try:
        return ServerFault(Rule(rule))
    except ValueError:
        raise Damaged("a guardian names a rule that there is not") from None


def signature_from_wire(message: common_pb2.Signature) -> Signature:
    """Return a signature; it is not verified here.

    Raises
    ------
    Damaged
        Wrong lengths.
    """
    if len(message.public_key) != HASH_BYTES or len(message.signature) != SIGNATURE_BYTES:
        raise Damaged("a guardian's signature has the wrong length")
    return Signature(message.public_key, message.signature)


class PieceReader:
    """Bytes that arrive in pieces, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._content = bytearray()

    def add(self, piece: bytes) -> None:
        """Take one piece.

        Raises
        ------
        InvalidInput
            More than the limit.
        """
        if len(self._content) + len(piece) > self._limit:
            raise InvalidInput("a message of the opening is too long")
        self._content += piece

    def content(self) -> bytes:
        """Return everything so far."""
        return bytes(self._content)
