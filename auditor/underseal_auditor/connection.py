"""Connections to servers, to members of a ceremony, to guardians, to a registrar's log."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

import grpc

from underseal_auditor.feed import Changes
from underseal_auditor.guardian import Dossier
from underseal_auditor.guardianship import Begun
from underseal_auditor.keys.assembly import Assembly
from underseal_auditor.keys.joint_opening import ZeroCommitment
from underseal_auditor.keys.messages import Reveal
from underseal_auditor.keys.signed import SignedCommitment
from underseal_auditor.panel import GuardianFacts
from underseal_auditor.petition import Petition
from underseal_auditor.verify.chain import Place
from underseal_auditor.wire import (
    PieceReader,
    commitment_from_wire,
    envelope_from_wire,
    envelope_to_wire,
    facts_from_wire,
    fault_from_wire,
    kind_to_wire,
    opening_header_to_wire,
    pin_from_wire,
    place_to_wire,
    reveal_from_wire,
    session_from_wire,
    signature_from_wire,
    zeros_from_wire,
    zeros_to_wire,
)
from underseal_auditor.wire.catalogue import changes_from_wire
from underseal_auditor.wire.zero_tests import (
    parts_to_wire,
    tokens_from_wire,
    tokens_to_wire,
)
from underseal_core.credentials import Credentials
from underseal_core.errors import Damaged
from underseal_core.rpc.status import from_rpc_error
from underseal_core.rpc.tls import open_channel
from underseal_core.signing import Envelope, Signature
from underseal_core.statements import Pin, SearchRequest
from underseal_core.tlog.proof import MAX_HASHES
from underseal_proto.v1 import (
    approval_pb2,
    approval_pb2_grpc,
    ceremony_pb2,
    ceremony_pb2_grpc,
    gallery_pb2,
    gallery_pb2_grpc,
    guardian_pb2,
    guardian_pb2_grpc,
    log_pb2,
    log_pb2_grpc,
)

CALL_SECONDS: Final = 10.0
_HASH: Final = re.compile(r"[0-9a-f]{64}")
ANSWER_SECONDS: Final = 60.0
PIECE_BYTES: Final = 1 << 20
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

    def unit(self, gallery: str, token: bytes, epoch: str = "") -> Iterator[bytes]:
        """Return a live unit's ciphertexts as the server sends them, nothing of them checked.

        Parameters
        ----------
        epoch
            A key epoch that the gallery has left: as the unit was then. Empty: as it is.

        Raises
        ------
        NotFound
            It was removed; what else the server's status stands for.
        """
        request = gallery_pb2.FetchUnitRequest(gallery=gallery, token=token, key_epoch=epoch)
        call = self._stub.FetchUnit(request, timeout=FEED_SECONDS)
        try:
            for message in call:
                yield message.ciphertext
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer="server") from error
        finally:
            call.cancel()

    def amend(
        self,
        gallery: str,
        amendment: Envelope,
        successions: Sequence[bytes],
        ciphertexts: Sequence[bytes],
    ) -> None:
        """See :class:`underseal_auditor.erasing.AmendableServer`."""

        def parts() -> Iterator[gallery_pb2.AmendUnitRequest]:
            header = gallery_pb2.AmendUnitHeader(
                gallery=gallery, amendment=envelope_to_wire(amendment), successions=successions
            )
            yield gallery_pb2.AmendUnitRequest(header=header)
            for data in ciphertexts:
                yield gallery_pb2.AmendUnitRequest(ciphertext=data)

        with _translated("server"):
            self._stub.AmendUnit(parts(), timeout=FEED_SECONDS)


class MemberConnection:
    """Another member of a ceremony: a :class:`underseal_auditor.keys.joining.MemberLink`.

    Blocking; connects when first asked, again after the member was away. All methods raise what
    the member's status stands for: Busy while it is away or not that far. ``size`` returns the
    bytes of a member's message of a round: no more are taken.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        file: Assembly,
        point: int,
        size: Callable[[IntEnum, int], int],
    ) -> None:
        self._channel = open_channel(address, credentials)
        self._stub = ceremony_pb2_grpc.CeremonyServiceStub(self._channel)
        self._file = file
        self._point = point
        self._size = size
        self._name = f"ceremony's member {point}"

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def commitment(self, round_: IntEnum) -> SignedCommitment:
        """See :class:`MemberLink`."""
        request = ceremony_pb2.GetCommitmentRequest(ceremony=self._file.digest, round=int(round_))
        try:
            answer = self._stub.GetCommitment(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer=self._name) from error
        return commitment_from_wire(answer, round_, self._point)

    def reveal(self, round_: IntEnum) -> Reveal:
        """See :class:`MemberLink`."""
        request = ceremony_pb2.GetRevealRequest(ceremony=self._file.digest, round=int(round_))
        call = self._stub.GetReveal(request, timeout=FEED_SECONDS)
        try:
            return reveal_from_wire(call, round_, self._point, self._size(round_, self._point))
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


class GuardianConnection:
    """A guardian elsewhere: a :class:`underseal_auditor.panel.GuardianLink`.

    Blocking and thread-safe; connects when first asked, again after the guardian was away.
    """

    def __init__(self, address: str, credentials: Credentials, point: int) -> None:
        self._channel = open_channel(address, credentials)
        self._stub = guardian_pb2_grpc.GuardianServiceStub(self._channel)
        self._name = f"guardian {point}"

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def facts(self) -> GuardianFacts:
        """See :class:`GuardianLink`."""
        with _translated(self._name):
            answer = self._stub.GetGuardian(guardian_pb2.GetGuardianRequest(), timeout=CALL_SECONDS)
        return facts_from_wire(answer)

    def commit(
        self,
        dossier: Dossier,
        active: tuple[int, ...],
        extends: tuple[bytes, ...],
        generation: str,
    ) -> Begun:
        """See :class:`GuardianLink`."""
        header = opening_header_to_wire(dossier, active, extends, generation)
        parts = _opening_parts(dossier, header)
        with _translated(self._name):
            answer = self._stub.BeginOpening(parts, timeout=FEED_SECONDS)
        if answer.server_fault:
            raise fault_from_wire(answer.server_fault)
        session, untested = session_from_wire(answer.session), tokens_from_wire(answer.untested, 1)
        return Begun(session, zeros_from_wire(answer.commitment), untested)

    def reveal(self, session: bytes, commitments: tuple[ZeroCommitment, ...], size: int) -> bytes:
        """See :class:`GuardianLink`."""
        request = guardian_pb2.RevealZerosRequest(
            session=session, commitments=[zeros_to_wire(one) for one in commitments]
        )
        reader = PieceReader(size)
        with _translated(self._name):
            call = self._stub.RevealZeros(request, timeout=FEED_SECONDS)
            try:
                for message in call:
                    reader.add(message.piece)
            finally:
                call.cancel()
        return reader.content()

    def take(
        self, session: bytes, revealed: Mapping[int, bytes], untested: frozenset[bytes]
    ) -> bytes:
        """See :class:`GuardianLink`."""
        parts = _zeros_parts(session, revealed, untested)
        with _translated(self._name):
            return self._stub.TakeZeros(parts, timeout=FEED_SECONDS).tests

    def reveal_tests(self, session: bytes, commitments: Mapping[int, bytes]) -> bytes:
        """See :class:`GuardianLink`."""
        parts = parts_to_wire(commitments)
        request = guardian_pb2.RevealTestsRequest(session=session, commitments=parts)
        with _translated(self._name):
            return self._stub.RevealTests(request, timeout=ANSWER_SECONDS).answer

    def conclude_tests(self, session: bytes, answers: Mapping[int, bytes]) -> None:
        """See :class:`GuardianLink`."""
        parts = parts_to_wire(answers)
        request = guardian_pb2.ConcludeTestsRequest(session=session, answers=parts)
        with _translated(self._name):
            self._stub.ConcludeTests(request, timeout=ANSWER_SECONDS)

    def answer(self, session: bytes, place: Place) -> bytes:
        """See :class:`GuardianLink`."""
        request = guardian_pb2.AnswerCiphertextRequest(
            session=session, kind=kind_to_wire(place.kind), block=place.block
        )
        with _translated(self._name):
            return self._stub.AnswerCiphertext(request, timeout=ANSWER_SECONDS).answer

    def countersign(self, session: bytes, release: Envelope) -> Signature:
        """See :class:`GuardianLink`."""
        request = guardian_pb2.CountersignReleaseRequest(
            session=session, release=envelope_to_wire(release)
        )
        with _translated(self._name):
            answer = self._stub.CountersignRelease(request, timeout=CALL_SECONDS)
        return signature_from_wire(answer.signature)

    def take_release(self, release: Envelope) -> None:
        """See :class:`GuardianLink`."""
        request = guardian_pb2.TakeReleaseRequest(release=envelope_to_wire(release))
        with _translated(self._name):
            self._stub.TakeRelease(request, timeout=CALL_SECONDS)


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
        with _translated("registrar"):
            return self._stub.GetCheckpoint(request, timeout=CALL_SECONDS).checkpoint

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """See :class:`LogSource`."""
        request = log_pb2.GetConsistencyRequest(old_size=old, new_size=new)
        with _translated("registrar"):
            hashes = self._stub.GetConsistency(request, timeout=CALL_SECONDS).hashes
        if len(hashes) > MAX_HASHES or any(len(value) != 32 for value in hashes):
            raise Damaged("the registrar sent something else than a proof")
        return tuple(hashes)

    def tile(self, level: int, index: int, size: int) -> bytes:
        """See :class:`LogSource`."""
        request = log_pb2.GetTileRequest(level=level, index=index, size=size)
        with _translated("registrar"):
            return self._stub.GetTile(request, timeout=CALL_SECONDS).tile

    def entries(self, bundle: int, size: int) -> bytes:
        """See :class:`LogSource`."""
        request = log_pb2.GetEntriesRequest(bundle=bundle, size=size)
        with _translated("registrar"):
            return self._stub.GetEntries(request, timeout=CALL_SECONDS).entries

    def add_cosignature(self, checkpoint: bytes) -> None:
        """Hand in a cosigned checkpoint; raises what the registrar's status stands for."""
        request = log_pb2.AddCosignatureRequest(checkpoint=checkpoint)
        with _translated("registrar"):
            self._stub.AddCosignature(request, timeout=CALL_SECONDS)


class RegistrarApprovals:
    """A registrar's requests that wait for persons. Raises what its status stands for."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._channel = open_channel(address, credentials)
        self._stub = approval_pb2_grpc.ApprovalServiceStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def petitions(self) -> list[Petition]:
        """Return what waits, oldest first."""
        with _translated("registrar"):
            answer = self._stub.ListPending(approval_pb2.ListPendingRequest(), timeout=CALL_SECONDS)
        return [_petition(message) for message in answer.pending]

    def decide(self, approval: Envelope) -> Petition:
        """Hand in a decision, and return how the request stands with it."""
        request = approval_pb2.DecideRequest(approval=envelope_to_wire(approval))
        with _translated("registrar"):
            answer = self._stub.Decide(request, timeout=CALL_SECONDS)
        return _petition(answer.pending)


def _petition(message: approval_pb2.PendingRequest) -> Petition:
    """Return what a registrar shows to an approver.

    Raises
    ------
    InvalidInput, Damaged
        Not a request that waits.
    """
    request = SearchRequest.parse(envelope_from_wire(message.request).payload)
    if not _HASH.fullmatch(message.result_sha256):
        raise Damaged("the registrar names no result")
    return Petition(
        request=request,
        result_sha256=message.result_sha256,
        submitted_at=message.submitted_at,
        expires_at=message.expires_at,
        needed=message.needed,
        approving=tuple(message.approving),
        refusing=tuple(message.refusing),
    )


@contextmanager
def _translated(peer: str) -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, peer=peer) from error


def _opening_parts(
    dossier: Dossier, header: guardian_pb2.OpeningHeader
) -> Iterator[guardian_pb2.BeginOpeningRequest]:
    yield guardian_pb2.BeginOpeningRequest(header=header)
    for place, ciphertext in dossier.sealed.everything().items():
        sealed = place_to_wire(place, ciphertext.to_bytes())
        yield guardian_pb2.BeginOpeningRequest(sealed=sealed)


def _zeros_parts(
    session: bytes, revealed: Mapping[int, bytes], untested: frozenset[bytes]
) -> Iterator[guardian_pb2.TakeZerosRequest]:
    yield guardian_pb2.TakeZerosRequest(session=session)
    for point, zeros in revealed.items():
        for start in range(0, len(zeros), PIECE_BYTES):
            piece = zeros[start : start + PIECE_BYTES]
            part = guardian_pb2.ZerosPiece(point=point, piece=piece)
            yield guardian_pb2.TakeZerosRequest(zeros=part)
    yield guardian_pb2.TakeZerosRequest(untested=tokens_to_wire(untested))
