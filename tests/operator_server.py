"""The operator of the auditors' tests on loopback with mutual TLS: its catalogue and its units."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from tests.auditor_world import Operator
from underseal_auditor.verify.catalogue import CatalogueEntry, CatalogueUnit
from underseal_core.credentials import Credentials
from underseal_core.errors import NotFound
from underseal_core.gallery.unit import Shape
from underseal_core.rpc.tls import server_credentials
from underseal_proto.v1 import gallery_pb2, gallery_pb2_grpc
from underseal_server.wire import envelope_to_wire, pin_to_wire

SHAPES = {
    Shape.ROW: gallery_pb2.UnitBegin.SHAPE_ROW,
    Shape.COLUMNS: gallery_pb2.UnitBegin.SHAPE_COLUMNS,
}


def unit_to_wire(unit: CatalogueUnit) -> gallery_pb2.CatalogueUnit:
    return gallery_pb2.CatalogueUnit(
        token=unit.token,
        shape=SHAPES[unit.shape],
        block=unit.placement.block,
        first_slot=unit.placement.first_slot,
        slot_step=unit.placement.step,
        templates=unit.placement.count,
        sha256=unit.sha256,
        receipt=envelope_to_wire(unit.receipt),
        added_version=unit.added_version,
    )


def entry_to_wire(entry: CatalogueEntry) -> gallery_pb2.CatalogueEntry:
    return gallery_pb2.CatalogueEntry(
        template_id=entry.template_id,
        subject_id=entry.subject_id,
        unit_token=entry.unit_token,
        place=entry.place,
        sealed_label=entry.sealed_label,
        label_sha256=entry.label_sha256,
        removed_version=entry.removed_version,
    )


class _Servicer(gallery_pb2_grpc.GalleryServiceServicer):
    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def GetGallery(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        pin = pin_to_wire(self._operator.pin(request.name))
        return gallery_pb2.GetGalleryResponse(gallery=gallery_pb2.Gallery(pin=pin))

    def SyncCatalogue(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        for piece in self._operator.changes(request.gallery, request.after_version):
            yield gallery_pb2.SyncCatalogueResponse(
                units=map(unit_to_wire, piece.units),
                entries=map(entry_to_wire, piece.entries),
                complete_version=piece.complete_version,
            )

    def FetchUnit(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        try:
            for part in self._operator.unit(request.gallery, request.token):
                yield gallery_pb2.FetchUnitResponse(ciphertext=part)
        except NotFound:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such unit")


@contextmanager
def operator_serving(operator: Operator, credentials: Credentials) -> Iterator[str]:
    """Serve what auditors ask a server for, and yield its address."""
    server = grpc.server(ThreadPoolExecutor(8))
    gallery_pb2_grpc.add_GalleryServiceServicer_to_server(_Servicer(operator), server)  # type: ignore[abstract]
    port = server.add_secure_port("127.0.0.1:0", server_credentials(credentials))
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
