"""Rows of labels and receipts, as their enrollers see and change them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import sqlalchemy as sa

from underseal_core.errors import Conflict, Damaged, InvalidInput, NotFound
from underseal_core.provenance import EnrolReceipt, template_leaf, templates_root
from underseal_core.signing import Envelope, Signature
from underseal_server.store.database import Database
from underseal_server.store.records import Gallery, LabelledUnit, Leaf, Relabelling
from underseal_server.store.schema import templates, units
from underseal_server.store.units import raise_version


class Labels:
    """The tables of units and templates, as relabelling sees them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unit(self, number: int) -> LabelledUnit:
        """Return a unit's last receipt, and all leaves of it.

        Raises
        ------
        NotFound
            It is gone.
        """
        with self._database.reading() as connection:
            row = connection.execute(sa.select(units).where(units.c.id == number)).first()
            if row is None or row.removed_version:
                raise NotFound("the gallery has no live unit of these templates")
            return LabelledUnit(receipt_of(row), tuple(_leaves(connection, number)))

    def change(self, gallery: Gallery, change: Relabelling) -> int:
        """Give templates of a unit new labels and the unit its new receipt, which is signed.

        Returns
        -------
        int
            The first version with them. The receipt that is stored again changes nothing.

        Raises
        ------
        NotFound
            There is no such unit, or one of the templates is not live in it.
        Conflict
            It was relabelled meanwhile.
        InvalidInput
            The receipt is not of these labels, or changes more than labels.
        """
        token = units.c.token == change.token
        with self._database.writing() as connection:
            found = sa.select(units).where(units.c.gallery_id == gallery.id, token)
            row = connection.execute(found).first()
            if row is None or row.removed_version:
                raise NotFound("the gallery has no live unit of this token")
            if row.receipt == change.receipt.payload:
                return int(row.relabelled_version)
            _check(connection, row, change)
            version = raise_version(connection, gallery, ())
            _write(connection, row.id, change, version)
        self._database.forgotten()
        return version


def receipt_of(row: sa.Row[tuple[object, ...]]) -> Envelope:
    """Return the receipt in a row of units."""
    signature = Signature(row.receipt_key, row.receipt_signature)
    return Envelope(EnrolReceipt.payload_type, row.receipt, (signature,))


def _leaves(connection: sa.Connection, number: int) -> list[Leaf]:
    """Return a unit's leaves in the order of places: slots ascend with them."""
    columns = templates.c.template_id, templates.c.subject_id, templates.c.label_sha256
    query = sa.select(*columns).where(templates.c.unit_id == number).order_by(templates.c.slot)
    return [Leaf(*row) for row in connection.execute(query)]


def _check(connection: sa.Connection, row: sa.Row[tuple[object, ...]], change: Relabelling) -> None:
    new, old = EnrolReceipt.parse(change.receipt.payload), EnrolReceipt.parse(row.receipt)
    if new.revision != old.revision + 1:
        raise Conflict("the unit was relabelled meanwhile", hint="try again")
    hashes = {
        template_id: hashlib.sha256(sealed).digest()
        for template_id, sealed in change.labels.items()
    }
    if len(hashes) != len(_live(connection, row.id, list(hashes))):
        raise NotFound("one of the templates is not in this unit, or was removed")
    leaves = [
        template_leaf(
            one.template_id, one.subject_id, hashes.get(one.template_id, one.label_sha256)
        )
        for one in _leaves(connection, row.id)
    ]
    try:
        new.check_follows(old)
    except Damaged as error:
        raise InvalidInput(error.public, hint="sign for the unit as it is") from error
    if new.templates_root != templates_root(leaves):
        raise InvalidInput("the receipt is not of these labels", hint="sign for what you send")


def _live(connection: sa.Connection, number: int, ids: Sequence[bytes]) -> list[bytes]:
    alive = templates.c.unit_id == number, templates.c.removed_version == 0
    query = sa.select(templates.c.template_id).where(*alive, templates.c.template_id.in_(ids))
    return list(connection.scalars(query))


def _write(connection: sa.Connection, number: int, change: Relabelling, version: int) -> None:
    (signature,) = change.receipt.signatures
    receipt = {
        "receipt": change.receipt.payload,
        "receipt_key": signature.public_key,
        "receipt_signature": signature.signature,
        "relabelled_version": version,
    }
    connection.execute(units.update().where(units.c.id == number).values(receipt))
    for template_id, sealed in change.labels.items():
        this = templates.c.unit_id == number, templates.c.template_id == template_id
        label = {
            "sealed_label": sealed,
            "label_sha256": hashlib.sha256(sealed).digest(),
            "relabelled_version": version,
        }
        connection.execute(templates.update().where(*this).values(label))
