"""GalleryService: galleries, enrolment, lists, removal, the auditors' feed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

from underseal_core.errors import InvalidInput
from underseal_core.rpc.access import Context, current_peer
from underseal_proto.v1 import gallery_pb2, gallery_pb2_grpc
from underseal_server import wire
from underseal_server.api.access import check_owner, check_writer
from underseal_server.api.amend import Amending
from underseal_server.api.enrol import EnrolStream
from underseal_server.api.erasures import ErasureDesk, Signer
from underseal_server.api.relabel import LabelDesk, TemplateFinder
from underseal_server.api.successions import Successions
from underseal_server.api.wire import filter_from_wire, statistics_to_wire
from underseal_server.engine.hosting import Hosting
from underseal_server.engine.places import PerClient
from underseal_server.engine.threads import Threads, finish
from underseal_server.store.store import Store

PAGE: Final = 100
MAX_PAGE: Final = 1000
FEEDS: Final = 2
"""Catalogue feeds of one auditor at a time: each holds a database connection while it is read."""
FETCHES: Final = 4
"""Units on their way to one auditor at a time: each holds a file."""
SYNC_PAGE: Final = 256
"""With the longest labels, half of what a message may hold."""


def page_size(asked: int) -> int:
    """Return the length of a page: 0 asks for the default."""
    return min(asked or PAGE, MAX_PAGE)


class GalleryServicer(gallery_pb2_grpc.GalleryServiceServicer):
    """See ``gallery.proto``. The guard has admitted the caller's role."""

    def __init__(
        self,
        hosting: Hosting,
        store: Store,
        threads: Threads,
        *,
        per_subject: int,
        streams: PerClient,
        succession: Successions,
        amending: Amending,
        signer: Signer,
    ) -> None:
        self._hosting = hosting
        self._templates = store.templates
        self._clock = store.clock
        self._threads = threads
        self._finder = TemplateFinder(store, threads)
        self._labels = LabelDesk(store, hosting, threads, self._finder)
        self._erasures = ErasureDesk(store, hosting, threads, signer)
        self._per_subject = per_subject
        self._streams = streams
        self._succession = succession
        self._amending = amending
        self._feeds = PerClient(FEEDS, "catalogue feeds")
        self._fetches = PerClient(FETCHES, "fetches of units")

    async def CreateGallery(  # noqa: N802
        self, request: gallery_pb2.CreateGalleryRequest, context: Context
    ) -> gallery_pb2.CreateGalleryResponse:
        """Create a gallery that the caller owns."""
        spec = wire.spec_from_wire(request, current_peer().name, self._per_subject)
        made = await self._hosting.create(spec)
        return gallery_pb2.CreateGalleryResponse(gallery=wire.description_to_wire(made))

    async def GetGallery(  # noqa: N802
        self, request: gallery_pb2.GetGalleryRequest, context: Context
    ) -> gallery_pb2.GetGalleryResponse:
        """Describe a gallery."""
        row = await self._hosting.row(wire.name_from_wire(request.name))
        found = wire.description_to_wire(await self._hosting.describe(row))
        if request.statistics:
            counted = await finish(self._threads.store, self._templates.statistics, row)
            found.statistics.CopyFrom(statistics_to_wire(counted))
        return gallery_pb2.GetGalleryResponse(gallery=found)

    async def ListGalleries(  # noqa: N802
        self, request: gallery_pb2.ListGalleriesRequest, context: Context
    ) -> gallery_pb2.ListGalleriesResponse:
        """List galleries by name."""
        limit = page_size(request.page_size)
        page = await self._hosting.page(wire.page_place(request.page_token), limit)
        full = len(page) == limit
        return gallery_pb2.ListGalleriesResponse(
            galleries=[wire.description_to_wire(entry) for entry in page],
            next_page_token=wire.page_token(page[-1].gallery.name) if full else "",
        )

    async def DeleteGallery(  # noqa: N802
        self, request: gallery_pb2.DeleteGalleryRequest, context: Context
    ) -> gallery_pb2.DeleteGalleryResponse:
        """Delete a gallery with everything in it."""
        row = await self._hosting.row(wire.name_from_wire(request.name))
        check_owner(current_peer(), row)
        await self._hosting.delete(row)
        return gallery_pb2.DeleteGalleryResponse()

    async def Enrol(  # noqa: N802
        self, request_iterator: AsyncIterator[gallery_pb2.EnrolRequest], context: Context
    ) -> AsyncIterator[gallery_pb2.EnrolResponse]:
        """Store units."""
        peer = current_peer()
        with self._streams.hold(peer.name):
            on = (self._hosting, self._threads, self._clock)
            stream = EnrolStream(request_iterator, peer, *on)
            async for receipt in stream.receipts():
                yield wire.receipt_to_wire(receipt)

    async def ListTemplates(  # noqa: N802
        self, request: gallery_pb2.ListTemplatesRequest, context: Context
    ) -> gallery_pb2.ListTemplatesResponse:
        """List live templates in slot order."""
        row = await self._hosting.row(wire.name_from_wire(request.gallery))
        check_writer(current_peer(), row)
        wanted, pool = filter_from_wire(request, self._clock()), self._threads.store
        after = wire.slot_place(request.page_token) if request.page_token else (-1, -1)
        limit = page_size(request.page_size)
        page = await finish(pool, self._templates.page, row, wanted, after, limit)
        count = self._templates.count
        matching = await finish(pool, count, row, wanted) if request.count else 0
        full = len(page) == limit
        place = f"{page[-1].block}.{page[-1].slot}" if full else ""
        return gallery_pb2.ListTemplatesResponse(
            templates=[wire.template_to_wire(template) for template in page],
            next_page_token=wire.page_token(place),
            matching=matching,
        )

    async def RemoveTemplates(  # noqa: N802
        self, request: gallery_pb2.RemoveTemplatesRequest, context: Context
    ) -> gallery_pb2.RemoveTemplatesResponse:
        """Remove templates by id, or all of a subject."""
        if bool(request.template_ids) == bool(request.subject_id):
            raise InvalidInput("name either templates or a subject")
        hosted = await self._hosting.open(wire.name_from_wire(request.gallery))
        check_writer(current_peer(), hosted.gallery)
        if request.subject_id:
            chosen = await self._finder.of_subject(hosted.gallery, request.subject_id)
        else:
            chosen = await self._finder.of_ids(hosted.gallery, request.template_ids)
        removed = await self._hosting.remove(hosted, chosen)
        version = (await self._hosting.row(hosted.gallery.name)).version
        return gallery_pb2.RemoveTemplatesResponse(removed=removed, gallery_version=version)

    async def ListErasures(  # noqa: N802
        self, request: gallery_pb2.ListErasuresRequest, context: Context
    ) -> gallery_pb2.ListErasuresResponse:
        """Say what has become of removed templates, with a signed receipt for each that is gone."""
        return await self._erasures.page(request, current_peer())

    async def ListLeaves(  # noqa: N802
        self, request: gallery_pb2.ListLeavesRequest, context: Context
    ) -> AsyncIterator[gallery_pb2.ListLeavesResponse]:
        """Send the receipts and leaves of some templates' units."""
        async for unit in self._labels.leaves(request, current_peer()):
            yield unit

    async def Relabel(  # noqa: N802
        self, request: gallery_pb2.RelabelRequest, context: Context
    ) -> gallery_pb2.RelabelResponse:
        """Change labels of a unit."""
        version = await self._labels.relabel(request, current_peer())
        return gallery_pb2.RelabelResponse(gallery_version=version)

    async def SyncCatalogue(  # noqa: N802
        self, request: gallery_pb2.SyncCatalogueRequest, context: Context
    ) -> AsyncIterator[gallery_pb2.SyncCatalogueResponse]:
        """Send what changed after a version, of one consistent state, then that state's version."""
        after = wire.version_from_wire(request.after_version)
        with self._feeds.hold(current_peer().name):
            row = await self._hosting.row(wire.name_from_wire(request.gallery))
            pages = self._templates.changes(row, after, SYNC_PAGE)
            version = 0
            try:
                while (page := await finish(self._threads.store, next, pages, None)) is not None:
                    version = page.version
                    yield wire.feed_to_wire(page)
                yield gallery_pb2.SyncCatalogueResponse(complete_version=version)
            finally:
                await finish(self._threads.store, pages.close)

    async def FetchUnit(  # noqa: N802
        self, request: gallery_pb2.FetchUnitRequest, context: Context
    ) -> AsyncIterator[gallery_pb2.FetchUnitResponse]:
        """Send a live unit's ciphertexts."""
        token = wire.id_from_wire(request.token, "token")
        epoch = wire.epoch_from_wire(request.key_epoch) if request.key_epoch else ""
        with self._fetches.hold(current_peer().name):
            hosted = await self._hosting.open(wire.name_from_wire(request.gallery))
            async with aclosing(self._hosting.unit(hosted, token, epoch)) as ciphertexts:
                async for ciphertext in ciphertexts:
                    yield gallery_pb2.FetchUnitResponse(ciphertext=ciphertext.to_bytes())

    async def AmendUnit(  # noqa: N802
        self, request_iterator: AsyncIterator[gallery_pb2.AmendUnitRequest], context: Context
    ) -> gallery_pb2.AmendUnitResponse:
        """Let ciphertexts that k auditors signed for take a unit's place."""
        with self._streams.hold(current_peer().name):
            await self._amending.amend(aiter(request_iterator))
        return gallery_pb2.AmendUnitResponse()

    async def GetSuccessor(  # noqa: N802
        self, request: gallery_pb2.GetSuccessorRequest, context: Context
    ) -> AsyncIterator[gallery_pb2.GetSuccessorResponse]:
        """Send the switching key from a key epoch to the next, and that one's bundle."""
        epoch = wire.epoch_from_wire(request.key_epoch)
        async for part in self._succession.parts(epoch):
            yield part
