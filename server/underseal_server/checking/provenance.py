"""Whether the catalogue says of templates what their enrollers signed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from underseal_core.errors import UndersealError
from underseal_core.gallery.unit import Placement
from underseal_core.provenance import EnrolReceipt, template_leaf, templates_root
from underseal_core.signing import Envelope, Signature
from underseal_core.snapshot import BlockEntries, block_entries
from underseal_server.store.database import Database
from underseal_server.store.records import Gallery
from underseal_server.store.schema import amendments, templates, units

Row = sa.Row[tuple[Any, ...]]


class Provenance:
    """Reads the tables of units and templates by itself, block after block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def numbers(self, gallery: Gallery) -> list[int]:
        """Return the blocks that hold any unit, ascending; those of PENDING ones too."""
        stored = (units.c.gallery_id == gallery.id, units.c.removed_version == 0)
        query = sa.select(units.c.block).where(*stored).distinct().order_by(units.c.block)
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def entries(self, gallery: Gallery, block: int) -> BlockEntries:
        """Return what the snapshot root covers of a block's templates.

        Raises
        ------
        Damaged
            Two of them are in one slot.
        """
        join = templates.join(units, templates.c.unit_id == units.c.id)
        query = (
            sa.select(
                templates.c.slot, templates.c.template_id, templates.c.subject_id, units.c.sha256
            )
            .select_from(join)
            .where(templates.c.gallery_id == gallery.id, templates.c.block == block)
            .where(templates.c.removed_version == 0, units.c.added_version > 0)
            .order_by(templates.c.slot)
        )
        with self._database.reading() as connection:
            return block_entries((r[0], r[1], r[2], r[3]) for r in connection.execute(query))

    def problems(self, gallery: Gallery, block: int) -> Iterator[str]:
        """Yield what does not fit in the units of a block and their templates."""
        join = units.outerjoin(amendments, amendments.c.unit_id == units.c.id)
        mine = (units.c.gallery_id == gallery.id, units.c.removed_version == 0)
        query = sa.select(units, amendments.c.version.label("amended")).select_from(join)
        query = query.where(*mine, units.c.block == block).order_by(units.c.id)
        held = sa.select(templates).select_from(
            templates.join(units, templates.c.unit_id == units.c.id)
        )
        held = held.where(*mine, units.c.block == block)
        held = held.order_by(templates.c.unit_id, templates.c.slot)
        with self._database.reading() as connection:
            rows = groupby(connection.execute(held), key=lambda row: row.unit_id)
            theirs = {number: list(group) for number, group in rows}
            for unit in connection.execute(query):
                for text in _unit_problems(gallery, unit, theirs.get(unit.id, [])):
                    yield f"unit {unit.id}: {text}"

    def kept_labels(self, gallery: Gallery) -> int:
        """Return how many removed templates still have their sealed label."""
        query = sa.select(sa.func.count()).select_from(templates)
        with self._database.reading() as connection:
            return int(connection.scalar(query.where(*_kept(gallery))) or 0)

    def forget_labels(self, gallery: Gallery) -> None:
        """Remove these labels."""
        with self._database.writing() as connection:
            gone = templates.update().where(*_kept(gallery))
            connection.execute(gone.values(sealed_label=b""))
        self._database.forgotten()
        self._database.purge()

    def count(self, gallery: Gallery) -> int:
        """Return how many templates searches see."""
        join = templates.join(units, templates.c.unit_id == units.c.id)
        query = sa.select(sa.func.count()).select_from(join)
        live = (templates.c.removed_version == 0, units.c.added_version > 0)
        with self._database.reading() as connection:
            return int(
                connection.scalar(query.where(templates.c.gallery_id == gallery.id, *live)) or 0
            )


def _kept(gallery: Gallery) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        templates.c.gallery_id == gallery.id,
        templates.c.removed_version > 0,
        sa.func.length(templates.c.sealed_label) > 0,
    )


def _unit_problems(gallery: Gallery, unit: Row, held: Sequence[Row]) -> Iterator[str]:
    placement = Placement(unit.block, unit.first_slot, unit.step, unit.templates)
    if [(row.block, row.slot) for row in held] != [(unit.block, s) for s in placement.slots()]:
        yield "its templates are not in its slots"
    versions = (unit.added_version, *(row.removed_version for row in held))
    if max(versions) > gallery.version:
        yield "it is of a version that the gallery has not reached"
    labels = (row for row in held if not row.removed_version)
    if any(hashlib.sha256(row.sealed_label).digest() != row.label_sha256 for row in labels):
        yield "a sealed label was changed"
    try:
        yield from _receipt_problems(gallery, unit, held)
    except UndersealError as error:
        yield f"its receipt: {error.public}"


def _receipt_problems(gallery: Gallery, unit: Row, held: Sequence[Row]) -> Iterator[str]:
    signature = Signature(unit.receipt_key, unit.receipt_signature)
    envelope = Envelope(EnrolReceipt.payload_type, unit.receipt, (signature,))
    receipt = EnrolReceipt.open(envelope, unit.receipt_key)
    leaves = [template_leaf(r.template_id, r.subject_id, r.label_sha256) for r in held]
    pin, now = receipt.pin, gallery.spec.pin
    same = {
        "gallery": receipt.gallery == gallery.name,
        "pin": pin.model_copy(update={"key_epoch": now.key_epoch}) == now,
        "client": receipt.client == unit.enrolled_by,
        "token": receipt.token == unit.token.hex(),
        "shape": receipt.shape == unit.shape,
        "templates": bool(leaves) and receipt.templates_root == templates_root(leaves),
        "time": receipt.keep_until == unit.keep_until,
        "ciphertexts": receipt.unit_sha256 == unit.sha256.hex()
        or unit.amended is not None
        or pin.key_epoch != now.key_epoch,
    }
    for name, fits in same.items():
        if not fits:
            yield f"its receipt is of another {name}"
