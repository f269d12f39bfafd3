"""Connections to the servers whose catalogues are mirrored, and to a registrar's log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc

from underseal_auditor.mirror import Changes
from underseal_auditor.wire import changes_from_wire, pin_from_wire
from underseal_core.credentials import Credentials
from underseal_core.errors import Damaged
from underseal_core.rpc.status import from_rpc_error
from underseal_core.rpc.tls import open_channel
from underseal_core.statements import Pin
from underseal_core.tlog.proof import MAX_HASHES
from underseal_proto.v1 import gallery_pb2, gallery_pb2_grpc, log_pb2, log_pb2_grpc

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


class RegistrarLog:
    """A registrar's transparency log over mutual TLS: a :class:`LogSource`."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._channel = open_channel(address, credentials)
        self._stub = log_pb2_grpc.LogServiceStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def checkpoint(self) -> bytes:
        """See :class:`LogSource`; raises what the registrar's status stands for."""
        request = log_pb2.GetCheckpointRequest()
        with _translated():
            return self._stub.GetCheckpoint(request, timeout=CALL_SECONDS).checkpoint

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """See :class:`LogSource`."""
        request = log_pb2.GetConsistencyRequest(old_size=old, new_size=new)
        with _translated():
            hashes = self._stub.GetConsistency(request, timeout=CALL_SECONDS).hashes
        if len(hashes) > MAX_HASHES or any(len(value) != 32 for value in hashes):
            raise Damaged("the registrar sent something else than a proof")
        return tuple(hashes)

    def tile(self, level: int, index: int, size: int) -> bytes:
        """See :class:`LogSource`."""
        request = log_pb2.GetTileRequest(level=level, index=index, size=size)
        with _translated():
            return self._stub.GetTile(request, timeout=CALL_SECONDS).tile

    def entries(self, bundle: int, size: int) -> bytes:
        """See :class:`LogSource`."""
        request = log_pb2.GetEntriesRequest(bundle=bundle, size=size)
        with _translated():
            return self._stub.GetEntries(request, timeout=CALL_SECONDS).entries


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, peer="registrar") from error
