"""The probe of a request that names an enrolled template: made of the auditor's own copy of it."""

from __future__ import annotations

from datetime import datetime

from underseal_auditor.replica import Replica
from underseal_auditor.verify.catalogue import View
from underseal_auditor.verify.chain import Chain
from underseal_core.errors import PermissionRefused
from underseal_core.provenance import EnrolReceipt
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.scheme.rerandomise import probe_of
from underseal_core.statements import utc_text


def enrolled_probe(replica: Replica, chain: Chain, view: View, now: datetime) -> Ciphertext:
    """Return the probe.

    Parameters
    ----------
    view
        The auditor's own, of the version that the result is of.

    Raises
    ------
    NotFound
        The template is not enrolled, or not any more.
    InvalidInput, Mismatch
        See ``EnrolReceipt.check_probe``.
    PermissionRefused
        Its enroller signed for it for a time that is over.
    """
    server, request, snapshot = chain.result.server, chain.request, chain.result.snapshot
    entry = view.current(request.own_template)
    units = replica.units(server, snapshot, [entry.block]).values()
    unit = next(one for one in units if entry.slot in one.slots())
    origin = replica.mirror.origin(server, request.gallery, entry.template_id)
    receipt = EnrolReceipt.parse(origin.receipt.payload)
    receipt.check_probe(request.pin.key_epoch)
    if receipt.over(utc_text(now)):
        raise PermissionRefused("the time for which the template was enrolled is over")
    (row,) = replica.ciphertexts(server, request.gallery, unit)
    return probe_of(row, replica.bundle.public_key, request.probe_seed())
