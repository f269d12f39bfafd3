"""What an enroller needs to sign for new labels of its templates, and the new labels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from underseal_core.credentials import Peer
from underseal_core.errors import InvalidInput
from underseal_proto.v1 import gallery_pb2
from underseal_server import wire
from underseal_server.api.access import check_writer
from underseal_server.api.wire import labels_from_wire, leaves_to_wire
from underseal_server.engine.hosted import Hosted
from underseal_server.engine.hosting import Hosting
from underseal_server.engine.threads import Threads, finish
from underseal_server.receipts import open_later_receipt
from underseal_server.store.records import Gallery, Relabelling
from underseal_server.store.store import Store

MAX_NAMED: Final = 1 << 14
"""Template ids in one call."""


class TemplateFinder:
    """Finds the units of the templates that a call names."""

    def __init__(self, store: Store, threads: Threads) -> None:
        self._templates = store.templates
        self._pool = threads.store

    async def of_ids(self, gallery: Gallery, ids: Sequence[bytes]) -> dict[int, list[bytes]]:
        """Return template ids by number of the unit.

        Raises
        ------
        InvalidInput
            None, too many, or ids of another length.
        NotFound
            One of them was never there.
        """
        if not 0 < len(ids) <= MAX_NAMED:
            raise InvalidInput(f"name 1 to {MAX_NAMED} templates at a time")
        checked = [wire.id_from_wire(entry, "template id") for entry in ids]
        return await finish(self._pool, self._templates.units_of_templates, gallery, checked)

    async def of_subject(self, gallery: Gallery, subject_id: bytes) -> dict[int, list[bytes]]:
        """Return a subject's templates by number of the unit.

        Raises
        ------
        NotFound
            There is none.
        """
        subject = wire.id_from_wire(subject_id, "subject id")
        return await finish(self._pool, self._templates.units_of_subject, gallery, subject)


class LabelDesk:
    """Serves ``ListLeaves`` and ``Relabel``."""

    def __init__(
        self, store: Store, hosting: Hosting, threads: Threads, finder: TemplateFinder
    ) -> None:
        self._labels = store.labels
        self._hosting = hosting
        self._pool = threads.store
        self._finder = finder

    async def leaves(
        self, request: gallery_pb2.ListLeavesRequest, peer: Peer
    ) -> AsyncIterator[gallery_pb2.ListLeavesResponse]:
        """Yield receipt and leaves of each unit of the named templates.

        Raises
        ------
        NotFound
            One of the templates, or its unit, is not there.
        """
        gallery = (await self._hosted(request.gallery, peer)).gallery
        for number in sorted(await self._finder.of_ids(gallery, request.template_ids)):
            unit = await finish(self._pool, self._labels.unit, number)
            yield leaves_to_wire(unit)

    async def relabel(self, request: gallery_pb2.RelabelRequest, peer: Peer) -> int:
        """Give templates of one unit new labels; see :meth:`Labels.change`.

        Raises
        ------
        PermissionRefused
            The caller did not enrol the unit.
        """
        hosted = await self._hosted(request.gallery, peer)
        envelope = wire.envelope_from_wire(request.receipt)
        labels = labels_from_wire(request.labels)
        receipt = await finish(self._pool, open_later_receipt, hosted.gallery, envelope, peer)
        change = Relabelling(bytes.fromhex(receipt.token), labels, envelope)
        async with hosted.changing, hosted.writing() as opened:
            version = await finish(self._pool, self._labels.change, hosted.gallery, change)
            opened.outdate()
            return version

    async def _hosted(self, name: str, peer: Peer) -> Hosted:
        hosted = await self._hosting.open(wire.name_from_wire(name))
        check_writer(peer, hosted.gallery)
        return hosted
