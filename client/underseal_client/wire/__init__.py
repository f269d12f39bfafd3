"""Between protobuf messages and the client's own values.

``*_to_wire`` builds messages; ``*_from_wire`` checks lengths and ranges of what a peer sent and
raises :class:`~underseal_core.errors.Damaged` for anything that no honest peer sends.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from underseal_client.records import (
    Delivered,
    NewTemplate,
    Progress,
    Receipt,
    Sealed,
    SealedKind,
    SearchPart,
    SignedResult,
)
from underseal_core.bundle import MAX_BUNDLE_BYTES
from underseal_core.errors import Damaged, UndersealError
from underseal_core.gallery.unit import Shape
from underseal_core.log_entries import MAX_ENTRY, Logged
from underseal_core.log_evidence import Evidence
from underseal_core.provenance import HASH_BYTES, MAX_PATH, Origin
from underseal_core.rpc.status import MAX_TEXT, named_error
from underseal_core.signing import Envelope, Signature
from underseal_core.statements import MAX_BYTES, Pin
from underseal_core.switching import MAX_SWITCHING_KEY_BYTES
from underseal_core.tlog.proof import MAX_HASHES
from underseal_proto.v1 import common_pb2, gallery_pb2, log_pb2, registrar_pb2, search_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from underseal_core.scheme.ciphertext import Ciphertext

ManyRequest = search_pb2.SearchManyRequest
"""One request of many, as a message."""

ID_BYTES: Final = 16
LABELS_PER_MESSAGE: Final = 1000
"""Sealed labels have about 1.3 KB; messages stay under 4 MiB."""
MAX_RECEIPT: Final = 64 << 10
"""A receipt has some 3 kB; cosignatures of dozens of witnesses fit as well."""
MAX_WITNESSED: Final = 64
"""Receipts under checkpoints that witnesses cosigned: one for each witness at most."""

MAX_SIGNATURES: Final = 64
MAX_MATCHES: Final = 1000

SHA256: Final = re.compile(r"^[0-9a-f]{64}$")
_SHAPES: Final = {
    Shape.ROW: gallery_pb2.UnitBegin.Shape.SHAPE_ROW,
    Shape.COLUMNS: gallery_pb2.UnitBegin.Shape.SHAPE_COLUMNS,
}
_KINDS: Final = {
    SealedKind.RESULT: search_pb2.SealedCiphertext.Kind.KIND_RESULT,
    SealedKind.NORM: search_pb2.SealedCiphertext.Kind.KIND_NORM,
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
    check(len(message.payload) <= MAX_BYTES, "a statement is too long")
    check(0 < len(message.signatures) <= MAX_SIGNATURES, "a statement has no signature")
    for entry in message.signatures:
        lengths = (len(entry.public_key), len(entry.signature))
        check(lengths == (32, 64), "a signature has a wrong length")
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
    check(len(sent.witnessed) <= MAX_WITNESSED, "a release has too many receipts")
    witnessed = tuple(_receipt(one) for one in sent.witnessed)
    evidence = Evidence(intent, outcome, revocation, witnessed)
    check(len(message.origins) <= MAX_MATCHES, "a release has too many matches")
    origins = tuple(origin_from_wire(one, one.receipt) for one in message.origins)
    return Delivered(envelope_from_wire(message.release), evidence, origins)


def origin_from_wire(
    message: registrar_pb2.MatchOrigin | gallery_pb2.Erasure, enrolment: common_pb2.Envelope
) -> Origin:
    """Return what proves a template's place in its unit; nothing of it is verified here.

    Raises
    ------
    Damaged
        A malformed envelope, or hashes that are too many or of another length.
    """
    check(len(message.path) <= MAX_PATH, "the proof of an enrolment is too long")
    hashes = (*message.path, message.label_sha256)
    check(all(len(value) == HASH_BYTES for value in hashes), "a hash has a wrong length")
    receipt = envelope_from_wire(enrolment)
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
    check(len(one.entry) <= MAX_ENTRY, "a log entry is too long")
    return Logged(one.entry, _receipt(one.receipt))


def _receipt(receipt: bytes) -> bytes:
    check(len(receipt) <= MAX_RECEIPT, "a log receipt is too long")
    return receipt


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
    check(len(message.hashes) <= MAX_HASHES, "a consistency proof is too long")
    check(all(len(value) == 32 for value in message.hashes), "a proof holds something else")
    return tuple(message.hashes)


def pin_to_wire(pin: Pin) -> common_pb2.Pin:
    """Return the message of a pin."""
    return common_pb2.Pin(
        model_id=pin.model_id,
        model_dimension=pin.model_dimension,
        profile=pin.profile,
        key_epoch=pin.key_epoch,
    )


def unit_to_wire(
    gallery: str,
    pin: Pin,
    token: bytes,
    shape: Shape,
    templates: Sequence[NewTemplate],
    ciphertexts: Iterable[Ciphertext],
    sign: Callable[[bytes], Envelope],
    *,
    wait: bool = True,
) -> Iterator[bytes]:
    """Yield a unit as serialised EnrolRequest messages, ciphertexts as they are made.

    ``sign`` makes the receipt, given the SHA-256 over the plain form of all
    ciphertexts. ``wait``: for the answer until searches compare with the unit, not only until it is
    durable.
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
        ciphertext.hash_plain(digest)
        yield gallery_pb2.EnrolRequest(ciphertext=ciphertext.to_bytes()).SerializeToString()
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


def search_many_to_wire(request: Envelope, probe: bytes) -> ManyRequest:
    """Return one request of many."""
    return ManyRequest(search=search_to_wire(request, probe))


def search_many_from_wire(
    answer: search_pb2.SearchManyResponse,
) -> tuple[int, list[SearchPart] | UndersealError]:
    """Return the number of a request, and parts of its answer or why it was refused.

    Raises
    ------
    Damaged
        See :func:`search_parts_from_wire`.
    """
    if answer.WhichOneof("answer") != "refusal":
        return answer.index, search_parts_from_wire(answer.found)
    refusal = answer.refusal
    pushback = str(refusal.retry_after_ms)
    error = named_error(refusal.error, refusal.text, refusal.hint, pushback)
    return answer.index, error or Damaged(
        f"the server failed: {refusal.text[:MAX_TEXT] or 'no details'}",
        hint=refusal.hint[:MAX_TEXT],
    )


def search_parts_from_wire(response: search_pb2.SearchResponse) -> list[SearchPart]:
    """Return what a message of a running search holds.

    Raises
    ------
    Damaged
        A part without content, or an unknown kind of ciphertext.
    """
    return [_search_part(part) for part in response.parts]


def _search_part(part: search_pb2.SearchPart) -> SearchPart:
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
        check(sound, "the server sent more than a switching key and a bundle")
    return bytes(key), bytes(bundle)


def check(condition: object, public: str) -> None:
    """Raise :class:`Damaged` with this text unless ``condition`` holds."""
    if not condition:
        raise Damaged(public)
