"""Between protobuf messages and the client's own values.

``*_to_wire`` builds messages; ``*_from_wire`` checks lengths and ranges of what a peer sent and
raises :class:`~underseal_core.errors.Damaged` for anything that no honest peer sends.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from underseal_client.records import (
    Delivered,
    Gallery,
    Leaf,
    ListedUnit,
    NewTemplate,
    Progress,
    Receipt,
    Sealed,
    SealedKind,
    SearchPart,
    SignedResult,
    StoredTemplate,
)
from underseal_core.bundle import MAX_BUNDLE_BYTES
from underseal_core.errors import Damaged
from underseal_core.gallery.unit import Shape
from underseal_core.log_entries import MAX_ENTRY, Logged
from underseal_core.log_evidence import Evidence
from underseal_core.provenance import HASH_BYTES, MAX_PATH, Origin
from underseal_core.signing import Envelope, Signature
from underseal_core.statements import MAX_BYTES, Pin
from underseal_core.switching import MAX_SWITCHING_KEY_BYTES
from underseal_core.tlog.proof import MAX_HASHES
from underseal_proto.v1 import common_pb2, gallery_pb2, log_pb2, registrar_pb2, search_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

ID_BYTES: Final = 16
LABELS_PER_MESSAGE: Final = 1000
"""Sealed labels have about 1.3 KB; messages stay under 4 MiB."""
MAX_RECEIPT: Final = 64 << 10
"""A receipt has some 3 kB; cosignatures of dozens of witnesses fit as well."""

MAX_SIGNATURES: Final = 64
MAX_MATCHES: Final = 1000

_SHA256: Final = re.compile(r"^[0-9a-f]{64}$")
_SHAPES: Final = {
    Shape.ROW: gallery_pb2.UnitBegin.Shape.SHAPE_ROW,
    Shape.COLUMNS: gallery_pb2.UnitBegin.Shape.SHAPE_COLUMNS,
}
_KINDS: Final = {
    SealedKind.RESULT: search_pb2.SealedCiphertext.Kind.KIND_RESULT,
    SealedKind.NORM: search_pb2.SealedCiphertext.Kind.KIND_NORM,
    SealedKind.PROJECTION: search_pb2.SealedCiphertext.Kind.KIND_PROJECTION,
    SealedKind.PROBE: search_pb2.SealedCiphertext.Kind.KIND_PROBE,
}
_KINDS_FROM_WIRE: Final = {number: kind for kind, number in _KINDS.items()}


def envelope_to_wire(envelope: Envelope) -> common_pb2.Envelope:
    """Return the message of a signed statement."""
    return common_pb2.Envelope(
        payload_type=envelope.payload_type,
        payload=envelope.payload,
        signatures=[
            common_pb2.Signature(public_key=entry.public_key, signature=entry.signature)
            for entry in envelope.signatures
        ],
    )


def envelope_from_wire(message: common_pb2.Envelope) -> Envelope:
    """Return the envelope, its signatures not yet verified.

    Raises
    ------
    Damaged
        Too long, no signature, or keys and signatures of other lengths.
    """
    _check(len(message.payload) <= MAX_BYTES, "a statement is too long")
    _check(0 < len(message.signatures) <= MAX_SIGNATURES, "a statement has no signature")
    for entry in message.signatures:
        lengths = (len(entry.public_key), len(entry.signature))
        _check(lengths == (32, 64), "a signature has a wrong length")
    signatures = tuple(Signature(s.public_key, s.signature) for s in message.signatures)
    return Envelope(message.payload_type, message.payload, signatures)


def delivered_from_wire(
    message: registrar_pb2.SubmitResponse | registrar_pb2.GetReleaseResponse,
) -> Delivered:
    """Return a release and what the log says of it; nothing of it is verified here.

    Raises
    ------
    Damaged
        A malformed envelope, or an entry, receipt or proof that is too long.
    """
    sent = message.evidence
    intent, outcome = _logged(sent.intent), _logged(sent.outcome)
    revocation = _logged(sent.revocation) if sent.HasField("revocation") else None
    evidence = Evidence(intent, outcome, revocation)
    _check(len(message.origins) <= MAX_MATCHES, "a release has too many matches")
    origins = tuple(_origin(one) for one in message.origins)
    return Delivered(envelope_from_wire(message.release), evidence, origins)


def _origin(message: registrar_pb2.MatchOrigin) -> Origin:
    _check(len(message.path) <= MAX_PATH, "the proof of an enrolment is too long")
    hashes = (*message.path, message.label_sha256)
    _check(all(len(value) == HASH_BYTES for value in hashes), "a hash has a wrong length")
    receipt = envelope_from_wire(message.receipt)
    return Origin(receipt, message.place, tuple(message.path), message.label_sha256)


def warrant_to_wire(warrant: Envelope) -> registrar_pb2.FileWarrantRequest:
    """Return the request that files a warrant."""
    return registrar_pb2.FileWarrantRequest(warrant=envelope_to_wire(warrant))


def filed_from_wire(message: registrar_pb2.FileWarrantResponse) -> tuple[Logged, bool]:
    """Return a warrant's log entry, not verified here, and whether it came too late.

    Raises
    ------
    Damaged
        The entry or its receipt is too long.
    """
    return _logged(message.filed), message.late


def _logged(one: common_pb2.LoggedEntry) -> Logged:
    _check(len(one.entry) <= MAX_ENTRY, "a log entry is too long")
    _check(len(one.receipt) <= MAX_RECEIPT, "a log receipt is too long")
    return Logged(one.entry, one.receipt)


def consistency_to_wire(old: int, new: int) -> log_pb2.GetConsistencyRequest:
    """Return the request for the proof that the log of size ``new`` extends that of ``old``."""
    return log_pb2.GetConsistencyRequest(old_size=old, new_size=new)


def consistency_from_wire(message: log_pb2.GetConsistencyResponse) -> tuple[bytes, ...]:
    """Return a consistency proof, not yet verified.

    Raises
    ------
    Damaged
        Longer than any proof, or not made of hashes.
    """
    _check(len(message.hashes) <= MAX_HASHES, "a consistency proof is too long")
    _check(all(len(value) == 32 for value in message.hashes), "a proof holds something else")
    return tuple(message.hashes)


def pin_to_wire(pin: Pin) -> common_pb2.Pin:
    """Return the message of a pin."""
    return common_pb2.Pin(
        model_id=pin.model_id,
        model_dimension=pin.model_dimension,
        profile=pin.profile,
        key_epoch=pin.key_epoch,
    )


def gallery_from_wire(message: gallery_pb2.Gallery) -> Gallery:
    """Return a gallery's description.

    Raises
    ------
    Damaged
        The pin or the snapshot root is not of the right form.
    """
    pin = message.pin
    try:
        checked = Pin(
            model_id=pin.model_id,
            model_dimension=pin.model_dimension,
            profile=pin.profile,
            key_epoch=pin.key_epoch,
        )
    except ValidationError as error:
        raise Damaged("the server describes a gallery without a valid pin") from error
    _check(_SHA256.match(message.snapshot_root or "0" * 64), "a snapshot root is malformed")
    return Gallery(
        name=message.name,
        pin=checked,
        writers=tuple(message.writers),
        max_templates_per_subject=message.max_templates_per_subject,
        templates=message.templates,
        blocks=message.blocks,
        version=message.version,
        snapshot_root=message.snapshot_root,
        created_at=message.created_at,
        bytes_stored=message.bytes_stored,
        max_keep_days=message.max_keep_days,
        pending_templates=message.pending_templates,
    )


def create_gallery_to_wire(
    name: str, pin: Pin, writers: Sequence[str], max_templates_per_subject: int, max_keep_days: int
) -> gallery_pb2.CreateGalleryRequest:
    """Return the request that makes a gallery."""
    return gallery_pb2.CreateGalleryRequest(
        name=name,
        pin=pin_to_wire(pin),
        writers=writers,
        max_templates_per_subject=max_templates_per_subject,
        max_keep_days=max_keep_days,
    )


def get_gallery_to_wire(name: str) -> gallery_pb2.GetGalleryRequest:
    """Return the request for one gallery's description."""
    return gallery_pb2.GetGalleryRequest(name=name)


def list_galleries_to_wire(page_token: str) -> gallery_pb2.ListGalleriesRequest:
    """Return the request for the next page of galleries."""
    return gallery_pb2.ListGalleriesRequest(page_token=page_token)


def delete_gallery_to_wire(name: str) -> gallery_pb2.DeleteGalleryRequest:
    """Return the request that deletes a gallery."""
    return gallery_pb2.DeleteGalleryRequest(name=name)


def list_templates_to_wire(
    gallery: str, subject_id: bytes, page_token: str
) -> gallery_pb2.ListTemplatesRequest:
    """Return the request for the next page of templates; empty ``subject_id`` for all."""
    return gallery_pb2.ListTemplatesRequest(
        gallery=gallery, subject_id=subject_id, page_token=page_token
    )


def template_from_wire(message: gallery_pb2.Template) -> StoredTemplate:
    """Return a listed template.

    Raises
    ------
    Damaged
        An id does not have 16 bytes.
    """
    lengths = {len(message.template_id), len(message.subject_id), len(message.unit_token)}
    _check(lengths == {ID_BYTES}, "an id has a wrong length")
    return StoredTemplate(
        message.template_id,
        message.subject_id,
        message.block,
        message.slot,
        message.enrolled_by,
        message.enrolled_at,
        message.keep_until,
        message.unit_token,
        message.state == gallery_pb2.UNIT_STATE_ACTIVE,
    )


def remove_to_wire(
    gallery: str, template_ids: Sequence[bytes], subject_id: bytes
) -> gallery_pb2.RemoveTemplatesRequest:
    """Return the request that removes templates by id or all of one subject."""
    return gallery_pb2.RemoveTemplatesRequest(
        gallery=gallery, template_ids=template_ids, subject_id=subject_id
    )


def list_leaves_to_wire(
    gallery: str, template_ids: Sequence[bytes]
) -> gallery_pb2.ListLeavesRequest:
    """Return the request for receipts and leaves of templates' units."""
    return gallery_pb2.ListLeavesRequest(gallery=gallery, template_ids=template_ids)


def listed_unit_from_wire(message: gallery_pb2.ListLeavesResponse) -> ListedUnit:
    """Return a unit's receipt and leaves, nothing of it verified.

    Raises
    ------
    Damaged
        Too many leaves, or ids or hashes of a wrong length.
    """
    _check(len(message.leaves) <= 1 << MAX_PATH, "a unit has too many templates")
    leaves = [Leaf(one.template_id, one.subject_id, one.label_sha256) for one in message.leaves]
    for leaf in leaves:
        lengths = (len(leaf.template_id), len(leaf.subject_id), len(leaf.label_sha256))
        _check(lengths == (ID_BYTES, ID_BYTES, HASH_BYTES), "an id or a hash has a wrong length")
    return ListedUnit(envelope_from_wire(message.receipt), tuple(leaves))


def relabel_to_wire(
    gallery: str, labels: Mapping[bytes, bytes], receipt: Envelope
) -> gallery_pb2.RelabelRequest:
    """Return the request that gives templates of one unit new sealed labels."""
    new = [gallery_pb2.NewLabel(template_id=i, sealed_label=sealed) for i, sealed in labels.items()]
    return gallery_pb2.RelabelRequest(
        gallery=gallery, labels=new, receipt=envelope_to_wire(receipt)
    )


def unit_to_wire(
    gallery: str,
    pin: Pin,
    token: bytes,
    shape: Shape,
    templates: Sequence[NewTemplate],
    ciphertexts: Iterable[bytes],
    sign: Callable[[bytes], Envelope],
    *,
    wait: bool = True,
) -> Iterator[bytes]:
    """Yield a unit as serialised EnrolRequest messages, ciphertexts as they are made.

    ``sign`` makes the receipt, given the SHA-256 over all ciphertexts. ``wait``: for the answer
    until searches compare with the unit, not only until it is durable.
    """
    state = gallery_pb2.UNIT_STATE_ACTIVE if wait else gallery_pb2.UNIT_STATE_PENDING
    header = gallery_pb2.EnrolHeader(gallery=gallery, pin=pin_to_wire(pin), answer_when=state)
    yield gallery_pb2.EnrolRequest(header=header).SerializeToString()
    begin = gallery_pb2.UnitBegin(token=token, shape=_SHAPES[shape], templates=len(templates))
    yield gallery_pb2.EnrolRequest(begin=begin).SerializeToString()
    for start in range(0, len(templates), LABELS_PER_MESSAGE):
        batch = gallery_pb2.TemplateBatch(
            templates=[
                gallery_pb2.NewTemplate(
                    template_id=entry.template_id,
                    subject_id=entry.subject_id,
                    sealed_label=entry.sealed_label,
                )
                for entry in templates[start : start + LABELS_PER_MESSAGE]
            ]
        )
        yield gallery_pb2.EnrolRequest(templates=batch).SerializeToString()
    digest = hashlib.sha256()
    for ciphertext in ciphertexts:
        digest.update(ciphertext)
        yield gallery_pb2.EnrolRequest(ciphertext=ciphertext).SerializeToString()
    receipt = envelope_to_wire(sign(digest.digest()))
    yield gallery_pb2.EnrolRequest(receipt=receipt).SerializeToString()


def enrol_part(data: bytes) -> gallery_pb2.EnrolRequest:
    """Return a message that :func:`unit_to_wire` made and this machine kept."""
    return gallery_pb2.EnrolRequest.FromString(data)


def receipt_from_wire(message: gallery_pb2.EnrolResponse) -> Receipt:
    """Return the receipt of one unit."""
    return Receipt(
        message.token,
        message.templates,
        message.gallery_version,
        message.block,
        message.first_slot,
        message.slot_step,
        message.repeated_token,
    )


def search_to_wire(request: Envelope, probe: bytes) -> search_pb2.SearchRequest:
    """Return the 1:N request."""
    return search_pb2.SearchRequest(request=envelope_to_wire(request), probe=probe)


def search_part_from_wire(part: search_pb2.SearchPart) -> SearchPart:
    """Return one message of a running search.

    Raises
    ------
    Damaged
        No part, or an unknown kind of ciphertext.
    """
    match part.WhichOneof("part"):
        case "progress":
            progress = part.progress
            return Progress(progress.queued, progress.blocks_done, progress.blocks_total)
        case "sealed":
            kind = _KINDS_FROM_WIRE.get(part.sealed.kind)
            if kind is None or kind is SealedKind.PROBE:
                raise Damaged("the server sent a ciphertext of an unknown kind")
            return Sealed(kind, part.sealed.block, part.sealed.ciphertext)
        case "result":
            return SignedResult(envelope_from_wire(part.result))
        case _:
            raise Damaged("the server sent an empty message")


def submission_to_wire(
    request: Envelope, result: Envelope, sealed: Sequence[Sealed]
) -> list[registrar_pb2.SubmitRequest]:
    """Return the messages of a submission: header, then every ciphertext."""
    header = registrar_pb2.SubmitHeader(
        request=envelope_to_wire(request), result=envelope_to_wire(result)
    )
    parts = [
        registrar_pb2.SubmitRequest(
            sealed=search_pb2.SealedCiphertext(
                kind=_KINDS[entry.kind], block=entry.block, ciphertext=entry.ciphertext
            )
        )
        for entry in sealed
    ]
    return [registrar_pb2.SubmitRequest(header=header), *parts]


def get_release_to_wire(request_id: str) -> registrar_pb2.GetReleaseRequest:
    """Return the request for a stored release."""
    return registrar_pb2.GetReleaseRequest(request_id=request_id)


def get_policy_to_wire() -> registrar_pb2.GetPolicyRequest:
    """Return the request for the policy in force."""
    return registrar_pb2.GetPolicyRequest()


def get_successor_to_wire(epoch: str) -> gallery_pb2.GetSuccessorRequest:
    """Return the message that asks what follows a key epoch."""
    return gallery_pb2.GetSuccessorRequest(key_epoch=epoch)


def successor_from_wire(
    parts: Iterable[gallery_pb2.GetSuccessorResponse],
) -> tuple[bytes, bytes]:
    """Return switching key and bundle; neither is parsed here.

    Raises
    ------
    Damaged
        More than either can be.
    """
    key, bundle = bytearray(), bytearray()
    for part in parts:
        key += part.switching_key
        bundle += part.bundle
        sound = len(key) <= MAX_SWITCHING_KEY_BYTES and len(bundle) <= MAX_BUNDLE_BYTES
        _check(sound, "the server sent more than a switching key and a bundle")
    return bytes(key), bytes(bundle)


def _check(condition: object, public: str) -> None:
    if not condition:
        raise Damaged(public)
