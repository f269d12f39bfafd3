"""New labels in the mirrored catalogues: what their enrollers signed, and nothing older."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Final

from underseal_auditor.feed import StagedFeed
from underseal_auditor.store.catalogue import Place, leaves, retire, unit
from underseal_auditor.verify.catalogue import CatalogueEntry, RelabelledUnit
from underseal_auditor.verify.provenance import Enrollers, check_later_receipt
from underseal_core.errors import Damaged, NotFound
from underseal_core.provenance import EnrolReceipt, templates_root

_KNOWN: Final = (
    "SELECT subject_id, token, place, removed_version FROM templates"
    " WHERE server = ? AND gallery = ? AND template_id = ?"
)
_LABEL: Final = (
    "UPDATE templates SET sealed_label = ?, label_sha256 = ?, removed_version = ?"
    " WHERE server = ? AND gallery = ? AND template_id = ?"
)
_RECEIPT: Final = (
    "UPDATE units SET receipt = ?, receipt_signature = ?"
    " WHERE server = ? AND gallery = ? AND token = ?"
)


def relabel(
    connection: sqlite3.Connection, place: Place, staged: StagedFeed, enrollers: Enrollers
) -> None:
    """Take in the labels that changed since, in units that were mirrored before.

    Raises
    ------
    Damaged
        The enroller did not sign for them, or signed before it signed for those that are there.
    """
    for change in staged.relabelled():
        try:
            known = unit(connection, place, change.token)
        except NotFound as error:
            raise Damaged("the server's catalogue has new labels for no unit") from error
        earlier = EnrolReceipt.parse(known.receipt.payload)
        check_later_receipt(earlier, change.receipt, enrollers)
        for entry in staged.templates_of(change):
            _replace(connection, place, entry)
        _write(connection, place, change)
        retire(connection, place, [change.token])


def _replace(connection: sqlite3.Connection, place: Place, entry: CatalogueEntry) -> None:
    stored = connection.execute(_KNOWN, (*place, entry.template_id)).fetchone()
    if stored != (entry.subject_id, entry.unit_token, entry.place, 0):
        raise Damaged("the server's catalogue contradicts what it stated before")
    removed = bool(entry.removed_version)
    if not removed and hashlib.sha256(entry.sealed_label).digest() != entry.label_sha256:
        raise Damaged("the server's catalogue has a label of another hash")
    label = b"" if removed else entry.sealed_label
    values = (label, entry.label_sha256, entry.removed_version)
    connection.execute(_LABEL, (*values, *place, entry.template_id))


def _write(connection: sqlite3.Connection, place: Place, change: RelabelledUnit) -> None:
    receipt = EnrolReceipt.parse(change.receipt.payload)
    if receipt.templates_root != templates_root(leaves(connection, place, change.token)):
        raise Damaged("the server's catalogue has labels that no enroller signed")
    (signature,) = change.receipt.signatures
    values = (change.receipt.payload, signature.signature)
    connection.execute(_RECEIPT, (*values, *place, change.token))
