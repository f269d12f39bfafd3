"""RegistrarService: the network's side of ``registrar.py``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar

from underseal_auditor.books import Delivery
from underseal_auditor.registrar import Admission, Registrar
from underseal_auditor.wire import (
    envelope_from_wire,
    envelope_to_wire,
    evidence_to_wire,
    header_from_wire,
    logged_to_wire,
    origin_to_wire,
    sealed_from_wire,
)
from underseal_core.errors import Busy, InvalidInput
from underseal_core.rpc.access import Context, current_peer
from underseal_proto.v1 import registrar_pb2, registrar_pb2_grpc

T = TypeVar("T")

RETRY_MS: Final = 500
PART_SECONDS: Final = 30.0
"""Longest wait for a submission's next message: a silent caller must not hold a place."""
UPLOAD_SECONDS: Final = 600.0
"""Longest upload of a whole submission: nor must one that sends a message now and then."""


class RegistrarServicer(registrar_pb2_grpc.RegistrarServiceServicer):
    """Serves one registrar.

    Parameters
    ----------
    registrar
        Blocking; called on threads of this servicer.
    max_submissions
        How many may be under way at a time; each holds its ciphertexts in memory. One client
        gets at most half of them, and at least one.
    """

    def __init__(self, registrar: Registrar, max_submissions: int) -> None:
        self._registrar = registrar
        self._max_submissions = max_submissions
        self._running: Counter[str] = Counter()
        self._opening = ThreadPoolExecutor(1, thread_name_prefix="opening")
        self._reading = ThreadPoolExecutor(2, thread_name_prefix="reading")

    def close(self) -> None:
        """Wait for the submission that is being opened."""
        self._opening.shutdown()
        self._reading.shutdown()

    async def Submit(  # noqa: N802 generated name
        self, request_iterator: AsyncIterator[registrar_pb2.SubmitRequest], context: Context
    ) -> registrar_pb2.SubmitResponse:
        """Check, open, release."""
        parts = aiter(request_iterator)
        admitted = await self._admit(parts)
        if isinstance(admitted, Delivery):
            return _submitted(admitted)
        with self._place(current_peer().name):
            return _submitted(await self._answer(admitted, parts))

    async def GetRelease(  # noqa: N802 generated name
        self, request: registrar_pb2.GetReleaseRequest, context: Context
    ) -> registrar_pb2.GetReleaseResponse:
        """Return one of the caller's stored releases."""
        peer = current_peer()
        delivery = await self._read(partial(self._registrar.release, peer, request.request_id))
        return registrar_pb2.GetReleaseResponse(
            release=envelope_to_wire(delivery.release),
            evidence=evidence_to_wire(delivery.evidence),
            origins=[origin_to_wire(one) for one in delivery.origins],
        )

    async def FileWarrant(  # noqa: N802 generated name
        self, request: registrar_pb2.FileWarrantRequest, context: Context
    ) -> registrar_pb2.FileWarrantResponse:
        """File a warrant for one of the caller's provisional releases."""
        peer, envelope = current_peer(), envelope_from_wire(request.warrant)
        filed = await self._read(partial(self._registrar.warrants.file, peer, envelope))
        return registrar_pb2.FileWarrantResponse(
            filed=logged_to_wire(filed.logged), late=filed.late
        )

    async def GetPolicy(  # noqa: N802 generated name
        self, request: registrar_pb2.GetPolicyRequest, context: Context
    ) -> registrar_pb2.GetPolicyResponse:
        """Return the policy in force."""
        policy = self._registrar.policy()
        return registrar_pb2.GetPolicyResponse(
            policy_toml=policy.source, policy_sha256=policy.sha256
        )

    @contextmanager
    def _place(self, client: str) -> Iterator[None]:
        """Hold a place: only for whom the policy names, with a result that a server signed."""
        fair = max(1, self._max_submissions // 2)
        if self._running.total() >= self._max_submissions or self._running[client] >= fair:
            raise Busy("the auditors are busy", retry_after_ms=RETRY_MS)
        self._running[client] += 1
        try:
            yield
        finally:
            self._running[client] -= 1

    async def _admit(
        self, parts: AsyncIterator[registrar_pb2.SubmitRequest]
    ) -> Delivery | Admission:
        first = await _next(parts)
        if first is None:
            raise InvalidInput("the submission is empty")
        request, result = header_from_wire(first)
        peer = current_peer()
        return await self._read(partial(self._registrar.admit, peer, request, result))

    async def _answer(
        self, admitted: Admission, parts: AsyncIterator[registrar_pb2.SubmitRequest]
    ) -> Delivery:
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                await self._take_all(admitted, parts)
        except TimeoutError:
            raise Busy("the submission took too long", hint="submit again") from None
        return await self._run(self._opening, partial(self._registrar.answer, admitted))

    async def _take_all(
        self, admission: Admission, parts: AsyncIterator[registrar_pb2.SubmitRequest]
    ) -> None:
        while (part := await _next(parts)) is not None:
            sealed = sealed_from_wire(part)
            await self._read(partial(admission.intake.take, *sealed))

    async def _read(self, work: Callable[[], T]) -> T:
        return await self._run(self._reading, work)

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)


def _submitted(delivery: Delivery) -> registrar_pb2.SubmitResponse:
    return registrar_pb2.SubmitResponse(
        release=envelope_to_wire(delivery.release),
        evidence=evidence_to_wire(delivery.evidence),
        origins=[origin_to_wire(one) for one in delivery.origins],
    )


async def _next(
    parts: AsyncIterator[registrar_pb2.SubmitRequest],
) -> registrar_pb2.SubmitRequest | None:
    try:
        async with asyncio.timeout(PART_SECONDS):
            return await anext(parts, None)
    except TimeoutError:
        raise Busy("the submission stopped half-way", hint="submit again") from None
