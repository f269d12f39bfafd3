"""GuardianService: the network's side of ``guardianship.py``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from underseal_auditor.guardianship import MAX_SESSIONS, Beginning, GuardianDesk
from underseal_auditor.verify.fault import ServerFault
from underseal_auditor.wire import (
    PieceReader,
    commitments_from_wire,
    envelope_from_wire,
    opening_header_from_wire,
    opening_sealed_from_wire,
    place_from_wire,
    session_from_wire,
    zeros_to_wire,
)
from underseal_auditor.wire.zero_tests import (
    answers_from_wire,
    tokens_from_wire,
    tokens_to_wire,
)
from underseal_auditor.wire.zero_tests import commitments_from_wire as test_commitments_from_wire
from underseal_core.credentials import Role
from underseal_core.errors import Busy, InvalidInput, PermissionRefused
from underseal_core.rpc.access import STANDARD_METHODS, AccessTable, Context, current_peer
from underseal_proto.v1 import common_pb2, guardian_pb2, guardian_pb2_grpc

T = TypeVar("T")

SERVICE: Final = "underseal.v1.GuardianService"

_AUDITOR: Final = frozenset({Role.AUDITOR})
ACCESS: Final[AccessTable] = {
    f"/{SERVICE}/GetGuardian": _AUDITOR,
    f"/{SERVICE}/BeginOpening": _AUDITOR,
    f"/{SERVICE}/RevealZeros": _AUDITOR,
    f"/{SERVICE}/TakeZeros": _AUDITOR,
    f"/{SERVICE}/RevealTests": _AUDITOR,
    f"/{SERVICE}/ConcludeTests": _AUDITOR,
    f"/{SERVICE}/AnswerCiphertext": _AUDITOR,
    f"/{SERVICE}/CountersignRelease": _AUDITOR,
    f"/{SERVICE}/TakeRelease": _AUDITOR,
    **STANDARD_METHODS,
}

PIECE_BYTES: Final = 1 << 20
UPLOAD_SECONDS: Final = 120.0


class GuardianServicer(guardian_pb2_grpc.GuardianServiceServicer):
    """Serves one guardian to the members of its key epoch.

    Parameters
    ----------
    desk
        Blocking; called on a thread of this servicer.
    """

    def __init__(self, desk: GuardianDesk) -> None:
        self._desk = desk
        self._uploads = 0
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="guardian")

    def close(self) -> None:
        """Wait for what is running."""
        self._threads.shutdown()

    async def GetGuardian(  # noqa: N802 generated name
        self, request: guardian_pb2.GetGuardianRequest, context: Context
    ) -> guardian_pb2.GetGuardianResponse:
        """Return point, keys, policy, and how much of the log this guardian has seen."""
        self._check_caller()
        # Not behind openings under way: this call tells that the guardian is there.
        abandoned = await asyncio.to_thread(lambda: self._desk.abandoned)
        return guardian_pb2.GetGuardianResponse(
            point=self._desk.point,
            key_epoch=self._desk.bundle.epoch,
            policy_sha256=self._desk.policy_sha256,
            generation=self._desk.roster.generation.sha256,
            log_size=self._desk.log_size,
            abandoned=[
                guardian_pb2.RequestName(client=client, request_id=request_id)
                for client, request_id in abandoned
            ],
        )

    async def BeginOpening(  # noqa: N802 generated name
        self, request_iterator: AsyncIterator[guardian_pb2.BeginOpeningRequest], context: Context
    ) -> guardian_pb2.BeginOpeningResponse:
        """Check a submission and commit."""
        self._check_caller()
        if self._uploads >= MAX_SESSIONS:
            raise Busy("this guardian has too many openings under way")
        self._uploads += 1
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                beginning = await self._receive(aiter(request_iterator))
        except TimeoutError:
            raise Busy("the opening took too long to arrive", hint="submit again") from None
        finally:
            self._uploads -= 1
        try:
            begun = await self._run(partial(self._desk.commit, beginning))
        except ServerFault as fault:
            return guardian_pb2.BeginOpeningResponse(server_fault=fault.rule.value)
        return guardian_pb2.BeginOpeningResponse(
            session=begun.session,
            commitment=zeros_to_wire(begun.commitment),
            untested=tokens_to_wire(begun.untested),
        )

    async def RevealZeros(  # noqa: N802 generated name
        self, request: guardian_pb2.RevealZerosRequest, context: Context
    ) -> AsyncIterator[guardian_pb2.RevealZerosResponse]:
        """Return this guardian's encryptions of zero."""
        self._check_caller()
        session = session_from_wire(request.session)
        commitments = commitments_from_wire(request.commitments)
        zeros = memoryview(await self._run(partial(self._desk.reveal, session, commitments)))
        for start in range(0, len(zeros), PIECE_BYTES):
            piece = bytes(zeros[start : start + PIECE_BYTES])
            yield guardian_pb2.RevealZerosResponse(piece=piece)

    async def TakeZeros(  # noqa: N802 generated name
        self, request_iterator: AsyncIterator[guardian_pb2.TakeZerosRequest], context: Context
    ) -> guardian_pb2.TakeZerosResponse:
        """Take in the others' encryptions of zero."""
        self._check_caller()
        parts = aiter(request_iterator)
        first = await anext(parts, None)
        if first is None or first.WhichOneof("part") != "session":
            raise InvalidInput("the encryptions of zero begin with their session")
        session = session_from_wire(first.session)
        limit = await self._run(partial(self._desk.zeros_size, session))
        revealed: dict[int, PieceReader] = {}
        untested: frozenset[bytes] = frozenset()
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for part in parts:
                if part.WhichOneof("part") == "untested":
                    untested = tokens_from_wire(part.untested, self._desk.bundle.threshold)
                    break
                point = part.zeros.point
                if point not in revealed and len(revealed) >= len(self._desk.roster.members):
                    raise InvalidInput("there are more encryptions of zero than guardians")
                revealed.setdefault(point, PieceReader(limit)).add(part.zeros.piece)
        contents = {point: reader.content() for point, reader in revealed.items()}
        commitment = await self._run(partial(self._desk.take, session, contents, untested))
        return guardian_pb2.TakeZerosResponse(tests=commitment)

    async def RevealTests(  # noqa: N802 generated name
        self, request: guardian_pb2.RevealTestsRequest, context: Context
    ) -> guardian_pb2.RevealTestsResponse:
        """Return this guardian's answers to the zero tests."""
        self._check_caller()
        session = session_from_wire(request.session)
        commitments = test_commitments_from_wire(request.commitments)
        answer = await self._run(partial(self._desk.reveal_tests, session, commitments))
        return guardian_pb2.RevealTestsResponse(answer=answer)

    async def ConcludeTests(  # noqa: N802 generated name
        self, request: guardian_pb2.ConcludeTestsRequest, context: Context
    ) -> guardian_pb2.ConcludeTestsResponse:
        """Judge the zero tests."""
        self._check_caller()
        session = session_from_wire(request.session)
        answers = answers_from_wire(request.answers, self._desk.bundle.profile)
        await self._run(partial(self._desk.conclude_tests, session, answers))
        return guardian_pb2.ConcludeTestsResponse()

    async def AnswerCiphertext(  # noqa: N802 generated name
        self, request: guardian_pb2.AnswerCiphertextRequest, context: Context
    ) -> guardian_pb2.AnswerCiphertextResponse:
        """Answer one ciphertext."""
        self._check_caller()
        session = session_from_wire(request.session)
        place = place_from_wire(request.kind, request.block)
        answer = await self._run(partial(self._desk.answer, session, place))
        return guardian_pb2.AnswerCiphertextResponse(answer=answer)

    async def CountersignRelease(  # noqa: N802 generated name
        self, request: guardian_pb2.CountersignReleaseRequest, context: Context
    ) -> guardian_pb2.CountersignReleaseResponse:
        """Sign the release."""
        self._check_caller()
        session = session_from_wire(request.session)
        release = envelope_from_wire(request.release)
        made = await self._run(partial(self._desk.countersign, session, release))
        return guardian_pb2.CountersignReleaseResponse(
            signature=common_pb2.Signature(public_key=made.public_key, signature=made.signature)
        )

    async def TakeRelease(  # noqa: N802 generated name
        self, request: guardian_pb2.TakeReleaseRequest, context: Context
    ) -> guardian_pb2.TakeReleaseResponse:
        """Learn that k guardians found sound what was tested."""
        self._check_caller()
        release = envelope_from_wire(request.release)
        await self._run(partial(self._desk.take_release, release))
        return guardian_pb2.TakeReleaseResponse()

    async def _receive(self, parts: AsyncIterator[guardian_pb2.BeginOpeningRequest]) -> Beginning:
        first = await anext(parts, None)
        if first is None:
            raise InvalidInput("the opening is empty")
        summons = opening_header_from_wire(first)
        beginning = await self._run(partial(self._desk.begin, summons))
        async for part in parts:
            sealed = opening_sealed_from_wire(part)
            await self._run(partial(beginning.intake.take, *sealed))
        return beginning

    def _check_caller(self) -> None:
        if current_peer().key not in self._desk.roster.members:
            raise PermissionRefused("the caller is no member of this key epoch")

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
