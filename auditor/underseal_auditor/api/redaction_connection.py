"""A guardian elsewhere, as a registrar redacts with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import grpc

from underseal_auditor.connection import ANSWER_SECONDS, CALL_SECONDS, FEED_SECONDS
from underseal_auditor.redacting import Admitted, Errand
from underseal_auditor.wire import facts_from_wire, signature_from_wire
from underseal_auditor.wire.redaction import admitted_from_wire, errand_to_wire
from underseal_auditor.wire.zero_tests import parts_to_wire
from underseal_core.credentials import Credentials
from underseal_core.rpc.status import from_rpc_error
from underseal_core.rpc.tls import open_channel
from underseal_core.signing import Signature
from underseal_proto.v1 import (
    guardian_pb2,
    guardian_pb2_grpc,
    redaction_pb2,
    redaction_pb2_grpc,
)


class RedactionConnection:
    """A guardian: a :class:`underseal_auditor.erasing.RedactionLink`. Blocking and thread-safe."""

    def __init__(self, address: str, credentials: Credentials, point: int) -> None:
        self._channel = open_channel(address, credentials)
        self._guardian = guardian_pb2_grpc.GuardianServiceStub(self._channel)
        self._stub = redaction_pb2_grpc.RedactionServiceStub(self._channel)
        self._name = f"guardian {point}"

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def generation(self) -> str:
        """See :class:`RedactionLink`; raises what the guardian's status stands for."""
        request = guardian_pb2.GetGuardianRequest()
        with self._translated():
            answer = self._guardian.GetGuardian(request, timeout=CALL_SECONDS)
        return facts_from_wire(answer).generation

    def begin(self, errand: Errand) -> Admitted:
        """See :class:`RedactionLink`."""
        with self._translated():
            answer = self._stub.BeginRedaction(errand_to_wire(errand), timeout=FEED_SECONDS)
        return admitted_from_wire(answer)

    def reveal_salt(self, session: bytes, commitments: Mapping[int, bytes]) -> bytes:
        """See :class:`RedactionLink`."""
        request = redaction_pb2.RevealSaltRequest(
            session=session, commitments=parts_to_wire(commitments)
        )
        with self._translated():
            return self._stub.RevealSalt(request, timeout=CALL_SECONDS).salt

    def prepare(self, session: bytes, salts: Mapping[int, bytes]) -> bytes:
        """See :class:`RedactionLink`."""
        request = redaction_pb2.PrepareTestRequest(session=session, salts=parts_to_wire(salts))
        with self._translated():
            return self._stub.PrepareTest(request, timeout=FEED_SECONDS).commitment

    def reveal_test(self, session: bytes, commitments: Mapping[int, bytes]) -> bytes:
        """See :class:`RedactionLink`."""
        request = redaction_pb2.RevealTestRequest(
            session=session, commitments=parts_to_wire(commitments)
        )
        with self._translated():
            return self._stub.RevealTest(request, timeout=ANSWER_SECONDS).answer

    def conclude(self, session: bytes, answers: Mapping[int, bytes]) -> None:
        """See :class:`RedactionLink`."""
        request = redaction_pb2.ConcludeTestRequest(session=session, answers=parts_to_wire(answers))
        with self._translated():
            self._stub.ConcludeTest(request, timeout=ANSWER_SECONDS)

    def contribute(self, session: bytes) -> Iterator[bytes]:
        """See :class:`RedactionLink`."""
        request = redaction_pb2.ContributeRequest(session=session)
        with self._translated():
            call = self._stub.Contribute(request, timeout=FEED_SECONDS)
            try:
                for message in call:
                    yield message.ciphertext
            finally:
                call.cancel()

    def take(self, session: bytes, ciphertexts: Sequence[bytes]) -> None:
        """See :class:`RedactionLink`."""
        with self._translated():
            self._stub.TakeRedacted(_taken(session, ciphertexts), timeout=FEED_SECONDS)

    def sign(self, session: bytes, issued_at: str) -> Signature:
        """See :class:`RedactionLink`."""
        request = redaction_pb2.SignAmendmentRequest(session=session, issued_at=issued_at)
        with self._translated():
            answer = self._stub.SignAmendment(request, timeout=CALL_SECONDS)
        return signature_from_wire(answer.signature)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer=self._name) from error


def _taken(
    session: bytes, ciphertexts: Sequence[bytes]
) -> Iterator[redaction_pb2.TakeRedactedRequest]:
    yield redaction_pb2.TakeRedactedRequest(session=session)
    for data in ciphertexts:
        yield redaction_pb2.TakeRedactedRequest(ciphertext=data)
