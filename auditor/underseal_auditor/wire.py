"""Between protobuf messages and the domain; ``from_wire`` functions check every length and range.

The only place of this role, beside servicers and connections, that knows generated code.
"""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from underseal_auditor.mirror import Changes
from underseal_auditor.verify.catalogue import MAX_BLOCK, MAX_SEALED_LABEL, CatalogueEntry
from underseal_core.errors import Damaged, InvalidInput
from underseal_core.log_evidence import Evidence
from underseal_core.scheme.ciphertext import Kind
from underseal_core.signing import Envelope, Signature
from underseal_core.statements import Pin
from underseal_proto.v1 import common_pb2, gallery_pb2, registrar_pb2, search_pb2

MAX_SIGNATURES: Final = 32
"""As many as there can be auditors: bounds the work that one envelope can cause."""

ID_BYTES: Final = 16
HASH_BYTES: Final = 32
MAX_VERSION: Final = 2**53 - 1
MAX_SLOT: Final = 1 << 14

_KINDS: Final = {
    search_pb2.SealedCiphertext.KIND_RESULT: Kind.RESULT,
    search_pb2.SealedCiphertext.KIND_NORM: Kind.NORM,
    search_pb2.SealedCiphertext.KIND_PROJECTION: Kind.PROJECTION,
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


def evidence_to_wire(evidence: Evidence) -> registrar_pb2.LogEvidence:
    """Return the message for a release's log entries and receipts."""
    intent, outcome = (
        registrar_pb2.LoggedEntry(entry=one.entry, receipt=one.receipt)
        for one in (evidence.intent, evidence.outcome)
    )
    return registrar_pb2.LogEvidence(intent=intent, outcome=outcome)


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


def changes_from_wire(message: gallery_pb2.SyncCatalogueResponse) -> Changes:
    """Return a piece of a server's catalogue feed.

    Raises
    ------
    Damaged
        A field out of its range.
    """
    if message.complete_version > MAX_VERSION:
        raise Damaged("the server's catalogue has an impossible version")
    return Changes(tuple(_entry(e) for e in message.entries), message.complete_version)


def _entry(message: gallery_pb2.CatalogueEntry) -> CatalogueEntry:
    sound = (
        len(message.template_id) == ID_BYTES
        and len(message.subject_id) == ID_BYTES
        and len(message.unit_sha256) == HASH_BYTES
        and len(message.sealed_label) <= MAX_SEALED_LABEL
        and message.block < MAX_BLOCK
        and message.slot < MAX_SLOT
        and 0 < message.added_version <= MAX_VERSION
        and message.removed_version <= MAX_VERSION
    )
    if not sound:
        raise Damaged("the server's catalogue has an impossible entry")
    return CatalogueEntry(
        template_id=message.template_id,
        subject_id=message.subject_id,
        block=message.block,
        slot=message.slot,
        sealed_label=message.sealed_label,
        unit_sha256=message.unit_sha256,
        added_version=message.added_version,
        removed_version=message.removed_version,
    )
