"""Receipts of erasure: what has become of removed templates, signed by this server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from underseal_core.amendment import Amendment
from underseal_core.credentials import Peer
from underseal_core.erasure import MAX_ARCHIVES, ByAmendment, ErasureReceipt, HeldBy
from underseal_core.errors import InvalidInput
from underseal_core.provenance import UnitTree, template_leaf
from underseal_core.signing import Envelope, Identity
from underseal_proto.v1 import gallery_pb2
from underseal_server import wire
from underseal_server.api.access import check_writer
from underseal_server.engine.hosted import Hosted
from underseal_server.engine.hosting import Hosting
from underseal_server.engine.threads import Threads, finish
from underseal_server.store.erasures import Removed
from underseal_server.store.records import StoredUnit
from underseal_server.store.store import Store

PAGE: Final = 20
"""Of receipts that name a thousand archives each, what a message may hold."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Name and key with which this server signs."""

    name: str
    identity: Identity


class ErasureDesk:
    """Serves ``ListErasures``."""

    def __init__(self, store: Store, hosting: Hosting, threads: Threads, signer: Signer) -> None:
        self._store = store
        self._hosting = hosting
        self._pool = threads.store
        self._signer = signer

    async def page(
        self, request: gallery_pb2.ListErasuresRequest, peer: Peer
    ) -> gallery_pb2.ListErasuresResponse:
        """Return removed templates, each with a receipt if its ciphertexts are erased.

        Raises
        ------
        NotFound
            One that is named is not removed.
        InvalidInput
            Both templates and a subject, too many, or ids of another length.
        Busy
            What was removed is still in a checkpoint that could not be replaced or deleted.
        Moved
            The gallery went to another key epoch meanwhile.
        """
        hosted = await self._hosting.open(wire.name_from_wire(request.gallery))
        check_writer(peer, hosted.gallery)
        await self._hosting.settle(hosted)
        found = await finish(self._pool, self._find, hosted, request)
        full = not request.template_ids and len(found) == PAGE
        erasures = [await finish(self._pool, self._erasure, hosted, one) for one in found]
        hosted.check()  # had it moved, its files were not those that were looked at
        return gallery_pb2.ListErasuresResponse(
            erasures=erasures,
            next_page_token=wire.page_token(str(found[-1].number)) if full else "",
        )

    def _find(self, hosted: Hosted, request: gallery_pb2.ListErasuresRequest) -> Sequence[Removed]:
        erasures, ids = self._store.erasures, request.template_ids
        if ids and (request.subject_id or len(ids) > PAGE):
            raise InvalidInput(f"name up to {PAGE} templates, or a subject, or neither")
        if ids:
            checked = [wire.id_from_wire(one, "template id") for one in ids]
            return erasures.of_ids(hosted.gallery, checked)
        subject = request.subject_id and wire.id_from_wire(request.subject_id, "subject id")
        place = wire.page_place(request.page_token) or "0"
        if not (place.isascii() and place.isdigit() and len(place) <= 18):
            raise InvalidInput("not a page token of this server")
        return erasures.page(hosted.gallery, subject, int(place), PAGE)

    def _erasure(self, hosted: Hosted, one: Removed) -> gallery_pb2.Erasure:
        (unit,) = self._store.units.by_ids([one.unit])
        message = gallery_pb2.Erasure(
            template_id=one.template_id,
            subject_id=one.subject_id,
            removed_version=one.version,
            removed_at=one.moment,
        )
        if not self._gone(hosted, unit, one):
            return message
        amendment = None if unit.removed_version or one.amendment is None else one.amendment
        receipt = self._receipt(hosted, unit, one, amendment)
        signed = receipt.sign(self._signer.identity)
        message.receipt.CopyFrom(wire.envelope_to_wire(signed))
        if amendment is not None:
            message.amendment.CopyFrom(wire.envelope_to_wire(amendment[0]))
            self._add_origin(message, unit, one)
        return message

    def _gone(self, hosted: Hosted, unit: StoredUnit, one: Removed) -> bool:
        """Look whether any file with the template's ciphertexts is left, of any key epoch."""
        if not unit.removed_version and one.place not in unit.erased:
            return False
        names = {unit.token, *([unit.name] if unit.removed_version else [])}
        names |= set() if unit.former is None else {unit.former.name}
        if not self._store.forget_former(hosted.gallery, unit):
            return False
        left = any(hosted.store.files.exists(name) for name in names)
        return not left and not (one.copied and unit.removed_version)

    def _receipt(
        self,
        hosted: Hosted,
        unit: StoredUnit,
        one: Removed,
        amendment: tuple[Envelope, int] | None,
    ) -> ErasureReceipt:
        held = self._store.archives.holding(hosted.gallery, [one.template_id])
        newest = held[-MAX_ARCHIVES:]
        return ErasureReceipt(
            server=self._signer.name,
            gallery=hosted.gallery.name,
            pin=hosted.gallery.spec.pin,
            template_id=one.template_id.hex(),
            subject_id=one.subject_id.hex(),
            unit_token=unit.token.hex(),
            removed_version=one.version,
            removed_at=one.moment,
            how="unit-deleted" if amendment is None else "amended",
            amendment=None if amendment is None else _named(amendment[0]),
            erased_version=unit.removed_version if amendment is None else amendment[1],
            archives=tuple(HeldBy(archive_id=a.archive_id, sha256=a.sha256) for a in newest),
            archives_count=len(held),
            issued_at=self._store.clock(),
        )

    def _add_origin(self, message: gallery_pb2.Erasure, unit: StoredUnit, one: Removed) -> None:
        """Add what proves the template's place: the amendment speaks of places."""
        labelled = self._store.labels.unit(unit.id)
        leaves = [
            template_leaf(leaf.template_id, leaf.subject_id, leaf.label_sha256)
            for leaf in labelled.leaves
        ]
        message.enrolment.CopyFrom(wire.envelope_to_wire(labelled.receipt))
        message.place = one.place
        message.path.extend(UnitTree(leaves).prove(one.place))
        message.label_sha256 = labelled.leaves[one.place].label_sha256


def _named(envelope: Envelope) -> ByAmendment:
    amendment = Amendment.parse(envelope.payload)
    return ByAmendment(
        sha256=amendment.sha256(),
        old_sha256=amendment.old_sha256,
        new_sha256=amendment.new_sha256,
    )
