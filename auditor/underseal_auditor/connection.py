"""Connections to the servers whose catalogues are mirrored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import grpc

from underseal_auditor.mirror import Changes
from underseal_auditor.wire import changes_from_wire, pin_from_wire
from underseal_core.credentials import Credentials
from underseal_core.rpc.status import from_rpc_error
from underseal_core.rpc.tls import open_channel
from underseal_core.statements import Pin
from underseal_proto.v1 import gallery_pb2, gallery_pb2_grpc

CALL_SECONDS: Final = 10.0
FEED_SECONDS: Final = 600.0
"""A first mirror of a million templates is more than a gigabyte of sealed labels."""


class ServerCatalogue:
    """A server's catalogue over mutual TLS: a :class:`CatalogueFeed`.

    Blocking and thread-safe; connects when first asked, again after the server was away.
    """

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._channel = open_channel(address, credentials)
        self._stub = gallery_pb2_grpc.GalleryServiceStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def pin(self, gallery: str) -> Pin:
        """See :class:`CatalogueFeed`; raises what the server's status stands for."""
        try:
            answer = self._stub.GetGallery(
                gallery_pb2.GetGalleryRequest(name=gallery), timeout=CALL_SECONDS
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer="server") from error
        return pin_from_wire(answer.gallery.pin)

    def changes(self, gallery: str, after_version: int) -> Iterator[Changes]:
        """See :class:`CatalogueFeed`; raises what the server's status stands for."""
        request = gallery_pb2.SyncCatalogueRequest(gallery=gallery, after_version=after_version)
        call = self._stub.SyncCatalogue(request, timeout=FEED_SECONDS)
        try:
            for message in call:
                yield changes_from_wire(message)
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer="server") from error
        finally:
            call.cancel()
