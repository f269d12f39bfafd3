"""RedactionService: the network's side of ``redacting.py``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from underseal_auditor.redacting import RedactionDesk
from underseal_auditor.wire import session_from_wire
from underseal_auditor.wire.redaction import (
    admitted_to_wire,
    answers_from_wire,
    digests_from_wire,
    errand_from_wire,
)
from underseal_core.credentials import Role
from underseal_core.errors import Busy, InvalidInput, PermissionRefused
from underseal_core.rpc.access import AccessTable, Context, current_peer
from underseal_proto.v1 import common_pb2, redaction_pb2, redaction_pb2_grpc

T = TypeVar("T")

SERVICE: Final = "underseal.v1.RedactionService"

_AUDITOR: Final = frozenset({Role.AUDITOR})
ACCESS: Final[AccessTable] = {
    f"/{SERVICE}/BeginRedaction": _AUDITOR,
    f"/{SERVICE}/RevealSalt": _AUDITOR,
    f"/{SERVICE}/PrepareTest": _AUDITOR,
    f"/{SERVICE}/RevealTest": _AUDITOR,
    f"/{SERVICE}/ConcludeTest": _AUDITOR,
    f"/{SERVICE}/Contribute": _AUDITOR,
    f"/{SERVICE}/TakeRedacted": _AUDITOR,
    f"/{SERVICE}/SignAmendment": _AUDITOR,
}
UPLOAD_SECONDS: Final = 300.0


class RedactionServicer(redaction_pb2_grpc.RedactionServiceServicer):
    """Serves one guardian to the members of its key epoch.

    Parameters
    ----------
    desk
        Blocking; called on a thread of this servicer.
    """

    def __init__(self, desk: RedactionDesk) -> None:
        self._desk = desk
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="redaction")
        self._taking = asyncio.Lock()

    def close(self) -> None:
        """Wait for what is running."""
        self._threads.shutdown()

    async def BeginRedaction(  # noqa: N802 generated name
        self, request: redaction_pb2.BeginRedactionRequest, context: Context
    ) -> redaction_pb2.BeginRedactionResponse:
        """Check an errand and begin."""
        self._check_caller()
        errand = errand_from_wire(request)
        return admitted_to_wire(await self._run(partial(self._desk.begin, errand)))

    async def RevealSalt(  # noqa: N802 generated name
        self, request: redaction_pb2.RevealSaltRequest, context: Context
    ) -> redaction_pb2.RevealSaltResponse:
        """Return this guardian's salt."""
        self._check_caller()
        session, given = session_from_wire(request.session), digests_from_wire(request.commitments)
        salt = await self._run(partial(self._desk.reveal_salt, session, given))
        return redaction_pb2.RevealSaltResponse(salt=salt)

    async def PrepareTest(  # noqa: N802 generated name
        self, request: redaction_pb2.PrepareTestRequest, context: Context
    ) -> redaction_pb2.PrepareTestResponse:
        """Commit to the answer."""
        self._check_caller()
        session, given = session_from_wire(request.session), digests_from_wire(request.salts)
        commitment = await self._run(partial(self._desk.prepare, session, given))
        return redaction_pb2.PrepareTestResponse(commitment=commitment)

    async def RevealTest(  # noqa: N802 generated name
        self, request: redaction_pb2.RevealTestRequest, context: Context
    ) -> redaction_pb2.RevealTestResponse:
        """Return the answer."""
        self._check_caller()
        session, given = session_from_wire(request.session), digests_from_wire(request.commitments)
        answer = await self._run(partial(self._desk.reveal_test, session, given))
        return redaction_pb2.RevealTestResponse(answer=answer)

    async def ConcludeTest(  # noqa: N802 generated name
        self, request: redaction_pb2.ConcludeTestRequest, context: Context
    ) -> redaction_pb2.ConcludeTestResponse:
        """Judge the test."""
        self._check_caller()
        session = session_from_wire(request.session)
        answers = answers_from_wire(request.answers, self._desk.bundle.profile)
        await self._run(partial(self._desk.conclude, session, answers))
        return redaction_pb2.ConcludeTestResponse()

    async def Contribute(  # noqa: N802 generated name
        self, request: redaction_pb2.ContributeRequest, context: Context
    ) -> AsyncIterator[redaction_pb2.ContributeResponse]:
        """Return this guardian's contributions."""
        self._check_caller()
        parts = self._desk.contribute(session_from_wire(request.session))
        try:
            while (part := await self._run(partial(next, parts, None))) is not None:
                yield redaction_pb2.ContributeResponse(ciphertext=part)
        finally:
            await self._run(parts.close)

    async def TakeRedacted(  # noqa: N802 generated name
        self, request_iterator: AsyncIterator[redaction_pb2.TakeRedactedRequest], context: Context
    ) -> redaction_pb2.TakeRedactedResponse:
        """Take the new ciphertexts."""
        self._check_caller()
        parts = aiter(request_iterator)
        async with self._taking:  # one at a time: it holds a unit in memory
            try:
                async with asyncio.timeout(UPLOAD_SECONDS):
                    session, new = await self._received(parts)
            except TimeoutError:
                raise Busy("the redaction took too long to arrive", hint="run it again") from None
            await self._run(partial(self._desk.take, session, new))
        return redaction_pb2.TakeRedactedResponse()

    async def _received(
        self, parts: AsyncIterator[redaction_pb2.TakeRedactedRequest]
    ) -> tuple[bytes, list[bytes]]:
        first = await anext(parts, None)
        if first is None or first.WhichOneof("part") != "session":
            raise InvalidInput("new ciphertexts begin with their session")
        session = session_from_wire(first.session)
        wanted = await self._run(partial(self._desk.ciphertexts, session))
        new: list[bytes] = []
        async for part in parts:
            new.append(part.ciphertext)
            if len(new) > wanted:
                raise InvalidInput("there are more new ciphertexts than old ones")
        return session, new

    async def SignAmendment(  # noqa: N802 generated name
        self, request: redaction_pb2.SignAmendmentRequest, context: Context
    ) -> redaction_pb2.SignAmendmentResponse:
        """Sign the amendment."""
        self._check_caller()
        session = session_from_wire(request.session)
        made = await self._run(partial(self._desk.sign, session, request.issued_at))
        signature = common_pb2.Signature(public_key=made.public_key, signature=made.signature)
        return redaction_pb2.SignAmendmentResponse(signature=signature)

    def _check_caller(self) -> None:
        if current_peer().key not in self._desk.roster.members:
            raise PermissionRefused("the caller is no member of this key epoch")

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
