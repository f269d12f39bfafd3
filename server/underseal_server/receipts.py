"""Receipts that enrollers sign for their units."""

from __future__ import annotations

from datetime import timedelta

from underseal_core.credentials import Peer
from underseal_core.errors import Damaged, InvalidInput, PermissionRefused
from underseal_core.provenance import Enrolled, EnrolReceipt
from underseal_core.signing import Envelope
from underseal_core.statements import utc_moment, utc_text
from underseal_server.signed_requests import CLOCK_SKEW
from underseal_server.store.records import Gallery, NewUnit


def check_receipt(gallery: Gallery, unit: NewUnit, peer: Peer, moment: str) -> EnrolReceipt:
    """Check that ``peer`` signed for exactly the unit that came, and for a time that is allowed.

    Parameters
    ----------
    moment
        The present, as statements write times.

    Returns
    -------
    EnrolReceipt
        What it signed.

    Raises
    ------
    PermissionRefused
        Not signed with the key of the peer's certificate.
    InvalidInput
        Not a receipt, one of another unit, one with more signatures, or one whose templates are
        past their time or would be kept for longer than the gallery keeps any.
    """
    if len(unit.receipt.signatures) != 1:
        raise InvalidInput("a unit's receipt has one signature, its enroller's")
    enrolled = Enrolled(
        gallery.name, gallery.spec.pin, unit.token, unit.shape, unit.leaves(), unit.sha256
    )
    try:
        receipt = EnrolReceipt.open(unit.receipt, peer.key)
        enrolled.check(receipt, peer.name)
    except Damaged as error:
        raise InvalidInput(error.public, hint="sign for what you send") from error
    if receipt.revision:
        raise InvalidInput("a unit's first receipt has revision 0")
    _check_time(receipt, gallery.spec.max_keep_days, moment)
    return receipt


def open_later_receipt(gallery: Gallery, envelope: Envelope, peer: Peer) -> EnrolReceipt:
    """Return a receipt that ``peer`` signed for a unit of ``gallery`` which it enrolled before.

    Raises
    ------
    PermissionRefused
        Not signed with the key of the peer's certificate, or in another client's name.
    InvalidInput
        Not a receipt, or with more signatures.
    """
    if len(envelope.signatures) != 1:
        raise InvalidInput("a unit's receipt has one signature, its enroller's")
    try:
        receipt = EnrolReceipt.open(envelope, peer.key)
    except Damaged as error:
        raise InvalidInput(error.public, hint="sign for what you send") from error
    if (receipt.gallery, receipt.client) != (gallery.name, peer.name):
        raise PermissionRefused("the receipt is of another gallery or in another client's name")
    return receipt


def _check_time(receipt: EnrolReceipt, days: int, moment: str) -> None:
    if receipt.over(moment):
        raise InvalidInput("the templates are past the time that they are enrolled for")
    if not days:
        return
    latest = utc_text(utc_moment(moment) + timedelta(days=days) + CLOCK_SKEW)
    if not receipt.keep_until or receipt.keep_until > latest:
        raise InvalidInput(
            f"the gallery keeps templates for at most {days} days",
            hint="say for how long: underseal enroll --keep-days",
        )
