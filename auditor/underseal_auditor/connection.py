"""Connections to the servers whose catalogues are mirrored, and to other members of a ceremony."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import grpc

from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.messages import Reveal, Round
from underseal_auditor.keys.phases import payload_size
from underseal_auditor.keys.signed import SignedCommitment
from underseal_auditor.mirror import Changes
from underseal_auditor.wire import (
    changes_from_wire,
    commitment_from_wire,
    pin_from_wire,
    reveal_from_wire,
)
from underseal_core.credentials import Credentials
from underseal_core.rpc.status import from_rpc_error
from underseal_core.rpc.tls import open_channel
from underseal_core.statements import Pin
from underseal_proto.v1 import (
    ceremony_pb2,
    ceremony_pb2_grpc,
    gallery_pb2,
    gallery_pb2_grpc,
)

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


class MemberConnection:
    """Another member of a ceremony: a :class:`underseal_auditor.keys.joining.MemberLink`.

    Blocking; connects when first asked, again after the member was away. All methods raise what
    the member's status stands for: Busy while it is away or not that far.
    """

    def __init__(
        self, address: str, credentials: Credentials, file: CeremonyFile, point: int
    ) -> None:
        self._channel = open_channel(address, credentials)
        self._stub = ceremony_pb2_grpc.CeremonyServiceStub(self._channel)
        self._file = file
        self._point = point
        self._name = f"ceremony's member {point}"

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def commitment(self, round_: Round) -> SignedCommitment:
        """See :class:`MemberLink`."""
        request = ceremony_pb2.GetCommitmentRequest(ceremony=self._file.digest, round=int(round_))
        try:
            answer = self._stub.GetCommitment(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer=self._name) from error
        return commitment_from_wire(answer, round_, self._point)

    def reveal(self, round_: Round) -> Reveal:
        """See :class:`MemberLink`."""
        request = ceremony_pb2.GetRevealRequest(ceremony=self._file.digest, round=int(round_))
        call = self._stub.GetReveal(request, timeout=FEED_SECONDS)
        try:
            limit = payload_size(self._file, round_, self._point)
            return reveal_from_wire(call, round_, self._point, limit)
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer=self._name) from error
        finally:
            call.cancel()

    def finished(self, *, mine: bool) -> bool:
        """See :class:`MemberLink`."""
        request = ceremony_pb2.GetCeremonyProgressRequest(ceremony=self._file.digest, finished=mine)
        try:
            answer = self._stub.GetCeremonyProgress(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer=self._name) from error
        return answer.finished
