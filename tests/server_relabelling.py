"""Requests for new labels, as enrollers make them."""

from __future__ import annotations

import hashlib

from tests.server_harness import Caller
from underseal_core.provenance import EnrolReceipt, template_leaf
from underseal_proto.v1 import gallery_pb2
from underseal_server.wire import envelope_to_wire


def shown(caller: Caller, *ids: bytes) -> gallery_pb2.ListLeavesResponse:
    """The one unit of these templates, as its enroller is shown it."""
    request = gallery_pb2.ListLeavesRequest(gallery="missing", template_ids=ids)
    (unit,) = caller.galleries.ListLeaves(request)
    assert isinstance(unit, gallery_pb2.ListLeavesResponse)
    return unit


def relabelling(
    caller: Caller,
    unit: gallery_pb2.ListLeavesResponse,
    labels: dict[bytes, bytes],
    moment: str,
    **changes: object,
) -> gallery_pb2.RelabelRequest:
    """A request for new labels, signed for by the caller; ``changes`` of its receipt."""
    earlier = EnrolReceipt.parse(unit.receipt.payload)
    hashes = {one: hashlib.sha256(label).digest() for one, label in labels.items()}
    leaves = [
        template_leaf(
            leaf.template_id, leaf.subject_id, hashes.get(leaf.template_id, leaf.label_sha256)
        )
        for leaf in unit.leaves
    ]
    receipt = earlier.relabelled(leaves, moment).model_copy(update=changes)
    return gallery_pb2.RelabelRequest(
        gallery="missing",
        labels=[
            gallery_pb2.NewLabel(template_id=one, sealed_label=label)
            for one, label in labels.items()
        ],
        receipt=envelope_to_wire(receipt.sign(caller.credentials.identity)),
    )
