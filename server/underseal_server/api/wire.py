"""Messages about templates that are counted, relabelled or removed, to records and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from underseal_core.errors import InvalidInput
from underseal_core.statements import utc_moment, utc_text
from underseal_proto.v1 import gallery_pb2
from underseal_server.store.records import LabelledUnit, Statistics, TemplateFilter
from underseal_server.wire import MAX_LABEL_BYTES, envelope_to_wire, id_from_wire, name_from_wire

MAX_LABELS: Final = 256
"""In one message, like the pages of the feed."""


def filter_from_wire(message: gallery_pb2.ListTemplatesRequest, moment: str) -> TemplateFilter:
    """Parse which templates are meant; ``moment`` is the present.

    Raises
    ------
    InvalidInput
        A field is not valid.
    """
    asked = message.filter
    return TemplateFilter(
        subject_id=message.subject_id and id_from_wire(message.subject_id, "subject id"),
        enrolled_from=_time(asked.enrolled_from),
        enrolled_before=_time(asked.enrolled_before),
        enrolled_by=asked.enrolled_by and name_from_wire(asked.enrolled_by, "client"),
        unit_token=asked.unit_token and id_from_wire(asked.unit_token, "token"),
        over_at=moment if asked.past_their_time else "",
    )


def _time(text: str) -> str:
    try:
        return text and utc_text(utc_moment(text))
    except ValueError as error:
        raise InvalidInput("a time is written as 2026-01-31T23:59:59Z") from error


def statistics_to_wire(counted: Statistics) -> gallery_pb2.GalleryStatistics:
    """Return the message."""
    return gallery_pb2.GalleryStatistics(
        pending=counted.pending,
        active=counted.active,
        removed=counted.removed,
        subjects=counted.subjects,
        oldest_enrolled_at=counted.oldest_enrolled_at,
        newest_enrolled_at=counted.newest_enrolled_at,
        next_keep_until=counted.next_keep_until,
    )


def leaves_to_wire(unit: LabelledUnit) -> gallery_pb2.ListLeavesResponse:
    """Return the message."""
    leaves = [
        gallery_pb2.Leaf(
            template_id=leaf.template_id,
            subject_id=leaf.subject_id,
            label_sha256=leaf.label_sha256,
        )
        for leaf in unit.leaves
    ]
    return gallery_pb2.ListLeavesResponse(receipt=envelope_to_wire(unit.receipt), leaves=leaves)


def labels_from_wire(labels: Sequence[gallery_pb2.NewLabel]) -> dict[bytes, bytes]:
    """Parse new sealed labels, by template id.

    Raises
    ------
    InvalidInput
        None, too many, two of one template, or a label that is too long.
    """
    if not 0 < len(labels) <= MAX_LABELS:
        raise InvalidInput(f"1 to {MAX_LABELS} templates are relabelled at a time")
    new = {id_from_wire(one.template_id, "template id"): one.sealed_label for one in labels}
    if len(new) != len(labels):
        raise InvalidInput("a template id occurs twice")
    if not all(0 < len(sealed) <= MAX_LABEL_BYTES for sealed in new.values()):
        raise InvalidInput(f"a sealed label has 1 to {MAX_LABEL_BYTES} bytes")
    return new
