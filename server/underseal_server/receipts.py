"""Receipts that enrollers sign for their units."""

from __future__ import annotations

from underseal_core.credentials import Peer
from underseal_core.errors import Damaged, InvalidInput
from underseal_core.provenance import Enrolled, EnrolReceipt
from underseal_server.store.records import Gallery, NewUnit


def check_receipt(gallery: Gallery, unit: NewUnit, peer: Peer) -> None:
    """Check that ``peer`` signed for exactly the unit that came.

    Raises
    ------
    PermissionRefused
        Not signed with the key of the peer's certificate.
    InvalidInput
        Not a receipt, one of another unit, or one with more signatures.
    """
    if len(unit.receipt.signatures) != 1:
        raise InvalidInput("a unit's receipt has one signature, its enroller's")
    enrolled = Enrolled(
        gallery.name, gallery.spec.pin, unit.token, unit.shape, unit.leaves(), unit.sha256
    )
    try:
        enrolled.check(EnrolReceipt.open(unit.receipt, peer.key), peer.name)
    except Damaged as error:
        raise InvalidInput(error.public, hint="sign for what you send") from error
