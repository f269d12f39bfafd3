"""Units and templates of a server's catalogue, signed for by whoever enrolled them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from underseal_auditor.verify.catalogue import CatalogueEntry, CatalogueUnit
from underseal_core.gallery.unit import Placement, Shape
from underseal_core.provenance import Enrolled, template_leaf
from underseal_core.signing import Identity
from underseal_core.snapshot import LiveEntry
from underseal_core.statements import Pin

ENROLLED_AT = "2026-05-01T08:00:00Z"


def templates(
    token: bytes, labels: Sequence[bytes], subjects: Sequence[bytes] | None = None
) -> list[CatalogueEntry]:
    """Templates of one unit, with random ids."""
    return [
        CatalogueEntry(
            template_id=secrets.token_bytes(16),
            subject_id=subjects[place] if subjects else secrets.token_bytes(16),
            unit_token=token,
            place=place,
            sealed_label=label,
            label_sha256=hashlib.sha256(label).digest(),
            removed_version=0,
        )
        for place, label in enumerate(labels)
    ]


def signed_unit(
    gallery: str,
    pin: Pin,
    placement: Placement,
    entries: Sequence[CatalogueEntry],
    identity: Identity,
    *,
    client: str = "agency",
    shape: Shape = Shape.COLUMNS,
    sha256: bytes = b"u" * 32,
    version: int = 1,
    keep_until: str = "",
) -> CatalogueUnit:
    """The unit of ``entries``, with the receipt of ``client``."""
    token = entries[0].unit_token
    leaves = [template_leaf(e.template_id, e.subject_id, e.label_sha256) for e in entries]
    enrolled = Enrolled(gallery, pin, token, shape, leaves, sha256)
    return CatalogueUnit(
        token=token,
        shape=shape,
        placement=placement,
        sha256=sha256,
        receipt=enrolled.receipt(client, ENROLLED_AT, keep_until).sign(identity),
        added_version=version,
    )


def live_entry(unit: CatalogueUnit, entry: CatalogueEntry) -> LiveEntry:
    """What the snapshot covers of a template."""
    return LiveEntry(
        unit.placement.block,
        unit.placement.first_slot + entry.place * unit.placement.step,
        entry.template_id,
        entry.subject_id,
        unit.sha256,
    )
