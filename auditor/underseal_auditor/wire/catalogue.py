"""A server's catalogue feed, from its messages to what the mirror checks."""

from __future__ import annotations

from typing import Final

from underseal_auditor.feed import Changes
from underseal_auditor.verify.catalogue import (
    MAX_BLOCK,
    MAX_SEALED_LABEL,
    AmendedUnit,
    CatalogueEntry,
    CatalogueUnit,
    RelabelledUnit,
)
from underseal_auditor.wire import HASH_BYTES, ID_BYTES, MAX_VERSION, envelope_from_wire
from underseal_core.amendment import Amendment
from underseal_core.errors import Damaged
from underseal_core.gallery.unit import Placement, Shape
from underseal_core.provenance import EnrolReceipt
from underseal_proto.v1 import gallery_pb2

MAX_SLOT: Final = 1 << 14

_SHAPES: Final = {
    gallery_pb2.UnitBegin.SHAPE_ROW: Shape.ROW,
    gallery_pb2.UnitBegin.SHAPE_COLUMNS: Shape.COLUMNS,
}


def changes_from_wire(message: gallery_pb2.SyncCatalogueResponse) -> Changes:
    """Return a piece of a server's catalogue feed.

    Raises
    ------
    Damaged
        A field out of its range.
    """
    if message.complete_version > MAX_VERSION:
        raise Damaged("the server's catalogue has an impossible version")
    units = tuple(_unit(unit) for unit in message.units)
    entries = tuple(_entry(entry) for entry in message.entries)
    amended = tuple(_amended(unit) for unit in message.amended)
    relabelled = tuple(_relabelled(unit) for unit in message.relabelled)
    return Changes(units, entries, message.complete_version, amended, relabelled)


def _unit(message: gallery_pb2.CatalogueUnit) -> CatalogueUnit:
    shape = _SHAPES.get(message.shape)
    sound = (
        len(message.token) == ID_BYTES
        and len(message.sha256) == HASH_BYTES
        and message.block < MAX_BLOCK
        and message.first_slot < MAX_SLOT
        and 1 <= message.slot_step < MAX_SLOT
        and 1 <= message.templates <= MAX_SLOT
        and len(message.receipt.payload) <= EnrolReceipt.max_bytes
        and len(message.receipt.signatures) == 1
        and 0 < message.added_version <= MAX_VERSION
    )
    if not sound or shape is None:
        raise Damaged("the server's catalogue has an impossible unit")
    place = (message.block, message.first_slot, message.slot_step, message.templates)
    return CatalogueUnit(
        token=message.token,
        shape=shape,
        placement=Placement(*place),
        sha256=message.sha256,
        receipt=envelope_from_wire(message.receipt),
        added_version=message.added_version,
    )


def _amended(message: gallery_pb2.AmendedUnit) -> AmendedUnit:
    sound = (
        len(message.token) == ID_BYTES
        and len(message.sha256) == HASH_BYTES
        and message.amendment.payload_type == Amendment.payload_type
        and len(message.amendment.payload) <= Amendment.max_bytes
        and 0 < message.amended_version <= MAX_VERSION
    )
    if not sound:
        raise Damaged("the server's catalogue has an impossible amendment")
    envelope = envelope_from_wire(message.amendment)
    Amendment.parse(envelope.payload)
    if not envelope.signatures or any(
        (len(one.public_key), len(one.signature)) != (32, 64) for one in envelope.signatures
    ):
        raise Damaged("the server's catalogue has an amendment that nobody signed")
    return AmendedUnit(message.token, message.sha256, envelope, message.amended_version)


def _relabelled(message: gallery_pb2.RelabelledUnit) -> RelabelledUnit:
    sound = (
        len(message.token) == ID_BYTES
        and len(message.receipt.payload) <= EnrolReceipt.max_bytes
        and len(message.receipt.signatures) == 1
        and 0 < message.relabelled_version <= MAX_VERSION
    )
    if not sound:
        raise Damaged("the server's catalogue has impossible new labels")
    receipt = envelope_from_wire(message.receipt)
    return RelabelledUnit(message.token, receipt, message.relabelled_version)


def _entry(message: gallery_pb2.CatalogueEntry) -> CatalogueEntry:
    sound = (
        len(message.template_id) == ID_BYTES
        and len(message.subject_id) == ID_BYTES
        and len(message.unit_token) == ID_BYTES
        and message.place < MAX_SLOT
        and len(message.sealed_label) <= MAX_SEALED_LABEL
        and len(message.label_sha256) == HASH_BYTES
        and message.removed_version <= MAX_VERSION
    )
    if not sound:
        raise Damaged("the server's catalogue has an impossible entry")
    return CatalogueEntry(
        template_id=message.template_id,
        subject_id=message.subject_id,
        unit_token=message.unit_token,
        place=message.place,
        sealed_label=message.sealed_label,
        label_sha256=message.label_sha256,
        removed_version=message.removed_version,
    )
