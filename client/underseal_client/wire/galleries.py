"""Galleries and templates, as the server lists, removes and relabels them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from underseal_client.records import (
    Gallery,
    Leaf,
    ListedUnit,
    SentErasure,
    Statistics,
    StoredTemplate,
    TemplateFilter,
    TemplatePage,
)
from underseal_client.wire import (
    ID_BYTES,
    SHA256,
    check,
    envelope_from_wire,
    envelope_to_wire,
    origin_from_wire,
    pin_to_wire,
)
from underseal_core.errors import Damaged
from underseal_core.provenance import HASH_BYTES, MAX_PATH
from underseal_core.statements import Pin, utc_text
from underseal_proto.v1 import gallery_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from underseal_core.signing import Envelope


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
    check(SHA256.match(message.snapshot_root or "0" * 64), "a snapshot root is malformed")
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


def get_gallery_to_wire(name: str, *, statistics: bool = False) -> gallery_pb2.GetGalleryRequest:
    """Return the request for one gallery's description."""
    return gallery_pb2.GetGalleryRequest(name=name, statistics=statistics)


def statistics_from_wire(message: gallery_pb2.Gallery) -> Statistics:
    """Return what a description counts.

    Raises
    ------
    Damaged
        It counts nothing.
    """
    check(message.HasField("statistics"), "the server did not count the templates")
    counted = message.statistics
    return Statistics(
        counted.pending,
        counted.active,
        counted.removed,
        counted.subjects,
        counted.oldest_enrolled_at,
        counted.newest_enrolled_at,
        counted.next_keep_until,
    )


def list_galleries_to_wire(page_token: str) -> gallery_pb2.ListGalleriesRequest:
    """Return the request for the next page of galleries."""
    return gallery_pb2.ListGalleriesRequest(page_token=page_token)


def delete_gallery_to_wire(name: str) -> gallery_pb2.DeleteGalleryRequest:
    """Return the request that deletes a gallery."""
    return gallery_pb2.DeleteGalleryRequest(name=name)


def list_templates_to_wire(
    gallery: str,
    subject_id: bytes,
    page_token: str,
    where: TemplateFilter,
    page_size: int = 0,
    *,
    count: bool = False,
) -> gallery_pb2.ListTemplatesRequest:
    """Return the request for the next page of templates; empty ``subject_id`` for all."""
    return gallery_pb2.ListTemplatesRequest(
        gallery=gallery,
        subject_id=subject_id,
        page_size=page_size,
        page_token=page_token,
        filter=gallery_pb2.TemplateFilter(
            enrolled_from=_time(where.enrolled_from),
            enrolled_before=_time(where.enrolled_before),
            enrolled_by=where.enrolled_by,
            unit_token=where.unit_token,
            past_their_time=where.past_their_time,
        ),
        count=count,
    )


def _time(moment: datetime | None) -> str:
    return "" if moment is None else utc_text(moment)


def page_from_wire(message: gallery_pb2.ListTemplatesResponse) -> TemplatePage:
    """Return a page of templates.

    Raises
    ------
    Damaged
        An id of a wrong length.
    """
    templates = tuple(template_from_wire(entry) for entry in message.templates)
    return TemplatePage(templates, message.next_page_token, message.matching)


def template_from_wire(message: gallery_pb2.Template) -> StoredTemplate:
    """Return a listed template.

    Raises
    ------
    Damaged
        An id does not have 16 bytes.
    """
    lengths = {len(message.template_id), len(message.subject_id), len(message.unit_token)}
    check(lengths == {ID_BYTES}, "an id has a wrong length")
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
    gallery: str, template_ids: Sequence[bytes]
) -> gallery_pb2.RemoveTemplatesRequest:
    """Return the request that removes templates by id."""
    return gallery_pb2.RemoveTemplatesRequest(gallery=gallery, template_ids=template_ids)


def list_erasures_to_wire(
    gallery: str, template_ids: Sequence[bytes] = (), subject_id: bytes = b"", after: str = ""
) -> gallery_pb2.ListErasuresRequest:
    """Return the request for what has become of removed templates."""
    return gallery_pb2.ListErasuresRequest(
        gallery=gallery, template_ids=template_ids, subject_id=subject_id, page_token=after
    )


def erasures_from_wire(
    message: gallery_pb2.ListErasuresResponse,
) -> tuple[list[SentErasure], str]:
    """Return a page of removed templates, nothing of it verified, and where it ends.

    Raises
    ------
    Damaged
        Malformed ids, envelopes or hashes.
    """
    return [_erasure(one) for one in message.erasures], message.next_page_token


def _erasure(message: gallery_pb2.Erasure) -> SentErasure:
    lengths = (len(message.template_id), len(message.subject_id))
    check(lengths == (ID_BYTES, ID_BYTES), "an id has a wrong length")

    def envelope(name: Literal["receipt", "amendment"]) -> Envelope | None:
        found = message.receipt if name == "receipt" else message.amendment
        return envelope_from_wire(found) if message.HasField(name) else None

    proven = message.HasField("enrolment")
    return SentErasure(
        message.template_id,
        message.subject_id,
        message.removed_version,
        message.removed_at,
        envelope("receipt"),
        envelope("amendment"),
        origin_from_wire(message, message.enrolment) if proven else None,
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
    check(len(message.leaves) <= 1 << MAX_PATH, "a unit has too many templates")
    leaves = [Leaf(one.template_id, one.subject_id, one.label_sha256) for one in message.leaves]
    for leaf in leaves:
        lengths = (len(leaf.template_id), len(leaf.subject_id), len(leaf.label_sha256))
        check(lengths == (ID_BYTES, ID_BYTES, HASH_BYTES), "an id or a hash has a wrong length")
    return ListedUnit(envelope_from_wire(message.receipt), tuple(leaves))


def relabel_to_wire(
    gallery: str, labels: Mapping[bytes, bytes], receipt: Envelope
) -> gallery_pb2.RelabelRequest:
    """Return the request that gives templates of one unit new sealed labels."""
    new = [gallery_pb2.NewLabel(template_id=i, sealed_label=sealed) for i, sealed in labels.items()]
    return gallery_pb2.RelabelRequest(
        gallery=gallery, labels=new, receipt=envelope_to_wire(receipt)
    )
