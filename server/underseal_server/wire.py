"""Messages to records and back. Everything that a peer sent is checked here, or not used."""

from __future__ import annotations

import base64
import re
from typing import Final

from pydantic import ValidationError

from underseal_core.errors import InvalidInput
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.profiles import padded_dimension
from underseal_core.signing import Envelope, Signature
from underseal_core.statements import Pin
from underseal_proto.v1 import common_pb2, gallery_pb2, search_pb2
from underseal_server.engine.hosting import Description
from underseal_server.engine.job import Progress
from underseal_server.store.records import (
    ID_BYTES,
    FeedPage,
    GallerySpec,
    NewTemplate,
    Receipt,
    State,
    Template,
)

MAX_LABEL_BYTES: Final = 8 << 10
"""A sealed label has about 1.5 kB; pages of labels must fit a message."""
MAX_WRITERS: Final = 100
MAX_KEEP_DAYS: Final = 36_525
"""A hundred years."""
EPOCH_DIGITS: Final = 64
MAX_SIGNATURES: Final = 32
MAX_VERSION: Final = 2**53 - 1
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_SHAPES: Final = {
    gallery_pb2.UnitBegin.SHAPE_ROW: Shape.ROW,
    gallery_pb2.UnitBegin.SHAPE_COLUMNS: Shape.COLUMNS,
}
_SHAPES_TO_WIRE: Final = {shape: number for number, shape in _SHAPES.items()}
_STATES: Final = {
    State.PENDING: gallery_pb2.UNIT_STATE_PENDING,
    State.ACTIVE: gallery_pb2.UNIT_STATE_ACTIVE,
    State.REMOVED: gallery_pb2.UNIT_STATE_REMOVED,
}


def name_from_wire(text: str, what: str = "gallery") -> str:
    """Check a name.

    Raises
    ------
    InvalidInput
        Not 1 to 63 of ``a-z 0-9 . _ -``, beginning with a letter or digit.
    """
    if not _NAME.fullmatch(text):
        raise InvalidInput(
            f"not a valid {what} name", hint="use 1 to 63 of a-z, 0-9, '.', '_' and '-'"
        )
    return text


def id_from_wire(data: bytes, what: str) -> bytes:
    """Check an id or token of 16 bytes.

    Raises
    ------
    InvalidInput
        Another length.
    """
    if len(data) != ID_BYTES:
        raise InvalidInput(f"a {what} has {ID_BYTES} bytes, not {len(data)}")
    return data


def version_from_wire(version: int) -> int:
    """Check a gallery version.

    Raises
    ------
    InvalidInput
        Beyond what statements can name, and databases hold.
    """
    if version > MAX_VERSION:
        raise InvalidInput("no gallery has such a version")
    return version


def pin_from_wire(message: common_pb2.Pin) -> Pin:
    """Parse a pin.

    Raises
    ------
    InvalidInput
        A field is missing or out of range.
    """
    padded_dimension(message.model_dimension)  # refuses what is out of range
    try:
        return Pin(
            model_id=message.model_id,
            model_dimension=message.model_dimension,
            profile=message.profile,
            key_epoch=message.key_epoch,
        )
    except ValidationError as error:
        fields = ", ".join(str(detail["loc"][0]) for detail in error.errors())
        raise InvalidInput(f"the pin is not valid: {fields}") from error


def pin_to_wire(pin: Pin) -> common_pb2.Pin:
    """Return the message."""
    return common_pb2.Pin(
        model_id=pin.model_id,
        model_dimension=pin.model_dimension,
        profile=pin.profile,
        key_epoch=pin.key_epoch,
    )


def spec_from_wire(
    message: gallery_pb2.CreateGalleryRequest, owner: str, default_per_subject: int
) -> GallerySpec:
    """Parse what a gallery is created with.

    Raises
    ------
    InvalidInput
        A field is not valid.
    """
    if len(message.writers) > MAX_WRITERS:
        raise InvalidInput(f"a gallery has at most {MAX_WRITERS} writers")
    named = {name_from_wire(name, "client") for name in message.writers}
    return GallerySpec(
        name_from_wire(message.name),
        pin_from_wire(message.pin),
        owner,
        frozenset(named | {owner}),
        message.max_templates_per_subject or default_per_subject,
        _keep_days(message.max_keep_days),
    )


def _keep_days(days: int) -> int:
    if days > MAX_KEEP_DAYS:
        raise InvalidInput(f"templates are kept for at most {MAX_KEEP_DAYS} days, or forever: 0")
    return days


def description_to_wire(description: Description) -> gallery_pb2.Gallery:
    """Return the message."""
    spec, view = description.gallery.spec, description.view
    return gallery_pb2.Gallery(
        name=spec.name,
        pin=pin_to_wire(spec.pin),
        writers=sorted(spec.writers),
        max_templates_per_subject=spec.max_per_subject,
        templates=view.templates,
        blocks=len(view.blocks),
        version=view.version,
        snapshot_root=view.root,
        created_at=description.gallery.created_at,
        bytes_stored=description.bytes_stored,
        max_keep_days=spec.max_keep_days,
        pending_templates=description.pending,
    )


def shape_from_wire(value: gallery_pb2.UnitBegin.Shape.ValueType) -> Shape:
    """Parse a unit's shape.

    Raises
    ------
    InvalidInput
        Unspecified or unknown.
    """
    try:
        return _SHAPES[value]
    except KeyError:
        raise InvalidInput("a unit is of shape ROW or COLUMNS") from None


def answer_from_wire(value: gallery_pb2.UnitState.ValueType) -> State:
    """Parse in which state units are answered.

    Raises
    ------
    InvalidInput
        Neither PENDING nor ACTIVE.
    """
    if value in (gallery_pb2.UNIT_STATE_UNSPECIFIED, gallery_pb2.UNIT_STATE_PENDING):
        return State.PENDING
    if value != gallery_pb2.UNIT_STATE_ACTIVE:
        raise InvalidInput("units are answered when they are PENDING or ACTIVE")
    return State.ACTIVE


def template_from_wire(message: gallery_pb2.NewTemplate) -> NewTemplate:
    """Parse a template of a unit.

    Raises
    ------
    InvalidInput
        An id of another length, or no label, or one that is too long.
    """
    if not 0 < len(message.sealed_label) <= MAX_LABEL_BYTES:
        raise InvalidInput(f"a sealed label has 1 to {MAX_LABEL_BYTES} bytes")
    return NewTemplate(
        id_from_wire(message.template_id, "template id"),
        id_from_wire(message.subject_id, "subject id"),
        message.sealed_label,
    )


def receipt_to_wire(receipt: Receipt) -> gallery_pb2.EnrolResponse:
    """Return the message."""
    placement = receipt.placement
    return gallery_pb2.EnrolResponse(
        token=receipt.token,
        templates=placement.count,
        gallery_version=receipt.version,
        block=placement.block,
        first_slot=placement.first_slot,
        slot_step=placement.step,
        repeated_token=receipt.repeated,
        state=_STATES[receipt.state],
    )


def template_to_wire(template: Template) -> gallery_pb2.Template:
    """Return the message."""
    return gallery_pb2.Template(
        template_id=template.template_id,
        subject_id=template.subject_id,
        block=template.block,
        slot=template.slot,
        enrolled_by=template.enrolled_by,
        enrolled_at=template.enrolled_at,
        keep_until=template.keep_until,
        unit_token=template.unit_token,
        state=_STATES[template.state],
    )


def feed_to_wire(page: FeedPage) -> gallery_pb2.SyncCatalogueResponse:
    """Return a page of the feed, which goes on after it."""
    units = [
        gallery_pb2.CatalogueUnit(
            token=unit.token,
            shape=_SHAPES_TO_WIRE[unit.shape],
            block=unit.placement.block,
            first_slot=unit.placement.first_slot,
            slot_step=unit.placement.step,
            templates=unit.placement.count,
            sha256=unit.sha256,
            receipt=envelope_to_wire(unit.receipt),
            added_version=unit.added_version,
        )
        for unit in page.units
    ]
    entries = [
        gallery_pb2.CatalogueEntry(
            template_id=change.template_id,
            subject_id=change.subject_id,
            unit_token=change.unit_token,
            place=change.place,
            sealed_label=change.sealed_label,
            label_sha256=change.label_sha256,
            removed_version=change.removed_version,
        )
        for change in page.templates
    ]
    amended = [
        gallery_pb2.AmendedUnit(
            token=unit.token,
            sha256=unit.sha256,
            amendment=envelope_to_wire(unit.amendment),
            amended_version=unit.version,
        )
        for unit in page.amended
    ]
    relabelled = [
        gallery_pb2.RelabelledUnit(
            token=unit.token,
            receipt=envelope_to_wire(unit.receipt),
            relabelled_version=unit.version,
        )
        for unit in page.relabelled
    ]
    return gallery_pb2.SyncCatalogueResponse(
        units=units, entries=entries, amended=amended, relabelled=relabelled
    )


def envelope_from_wire(message: common_pb2.Envelope) -> Envelope:
    """Parse an envelope; its signatures are checked when it is opened.

    Raises
    ------
    InvalidInput
        Too many signatures.
    """
    if len(message.signatures) > MAX_SIGNATURES:
        raise InvalidInput(f"an envelope has at most {MAX_SIGNATURES} signatures")
    signatures = tuple(Signature(s.public_key, s.signature) for s in message.signatures)
    return Envelope(message.payload_type, message.payload, signatures)


def envelope_to_wire(envelope: Envelope) -> common_pb2.Envelope:
    """Return the message."""
    signatures = [
        common_pb2.Signature(public_key=s.public_key, signature=s.signature)
        for s in envelope.signatures
    ]
    return common_pb2.Envelope(
        payload_type=envelope.payload_type, payload=envelope.payload, signatures=signatures
    )


def add_progress(response: search_pb2.SearchResponse, progress: Progress) -> None:
    """Add a part that tells how far a search is."""
    message = search_pb2.SearchProgress(
        queued=progress.queued,
        blocks_done=progress.blocks_done,
        blocks_total=progress.blocks_total,
    )
    response.parts.add(progress=message)


def add_sealed(
    response: search_pb2.SearchResponse,
    kind: search_pb2.SealedCiphertext.Kind.ValueType,
    block: int,
    ciphertext: bytes,
) -> None:
    """Add a part with a ciphertext, written in its place: a message put into one is copied."""
    sealed = response.parts.add().sealed
    sealed.kind = kind
    sealed.block = block
    sealed.ciphertext = ciphertext


def page_token(text: str) -> str:
    """Return an opaque token for the place after which the next page begins."""
    return base64.urlsafe_b64encode(text.encode()).decode()


def page_place(token: str) -> str:
    """Inverse of :func:`page_token`.

    Raises
    ------
    InvalidInput
        Not a token of this server.
    """
    try:
        return base64.b64decode(token[:200], altchars=b"-_", validate=True).decode()
    except ValueError as error:  # also binascii.Error and UnicodeDecodeError
        raise InvalidInput("not a page token of this server") from error


def slot_place(token: str) -> tuple[int, int]:
    """Parse a token of a page of templates: block and slot.

    Raises
    ------
    InvalidInput
        Not a token of this server.
    """
    match = re.fullmatch(r"(\d{1,9})\.(\d{1,9})", page_place(token))
    if match is None:
        raise InvalidInput("not a page token of this server")
    return int(match[1]), int(match[2])


def epoch_from_wire(text: str) -> str:
    """Check a key epoch.

    Raises
    ------
    InvalidInput
        Not 64 hexadecimal digits.
    """
    if len(text) != EPOCH_DIGITS or any(digit not in "0123456789abcdef" for digit in text):
        raise InvalidInput("a key epoch has 64 hexadecimal digits")
    return text
