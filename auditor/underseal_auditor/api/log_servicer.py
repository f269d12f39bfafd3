"""LogService: the transparency log, for anyone with a certificate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

import structlog

from underseal_core.errors import Damaged, InvalidInput
from underseal_core.rpc.access import Context
from underseal_core.tlog.cosigned import CosignedCheckpoints
from underseal_core.tlog.layout import TILE_WIDTH, encode_bundle, tile_width
from underseal_core.tlog.log import TransparencyLog
from underseal_proto.v1 import log_pb2, log_pb2_grpc

_log: Final = structlog.get_logger("underseal.registrar")

T = TypeVar("T")

MAX_LEVEL: Final = 7
"""Tiles of level 8 begin with the 2**64th entry."""


class LogServicer(log_pb2_grpc.LogServiceServicer):
    """Reads one log's files; writes nothing but what its witnesses cosigned."""

    def __init__(self, log: TransparencyLog, cosigned: CosignedCheckpoints) -> None:
        self._log, self._cosigned = log, cosigned
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="log")

    def close(self) -> None:
        """Wait for the call that is being answered."""
        self._reading.shutdown()

    async def GetCheckpoint(  # noqa: N802 generated name
        self, request: log_pb2.GetCheckpointRequest, context: Context
    ) -> log_pb2.GetCheckpointResponse:
        """Return the newest checkpoint."""
        return log_pb2.GetCheckpointResponse(checkpoint=self._log.checkpoint)

    async def GetConsistency(  # noqa: N802 generated name
        self, request: log_pb2.GetConsistencyRequest, context: Context
    ) -> log_pb2.GetConsistencyResponse:
        """Return a consistency proof."""
        self._check_size(request.new_size)
        proof = await self._read(
            partial(self._log.reader.prove_consistency, request.old_size, request.new_size)
        )
        return log_pb2.GetConsistencyResponse(hashes=proof)

    async def GetTile(  # noqa: N802 generated name
        self, request: log_pb2.GetTileRequest, context: Context
    ) -> log_pb2.GetTileResponse:
        """Return a tile."""
        self._check_size(request.size)
        if request.level > MAX_LEVEL or not tile_width(request.level, request.index, request.size):
            raise InvalidInput("the log has no such tile at this size")
        tile = await self._read(
            partial(self._log.reader.tile, request.level, request.index, request.size)
        )
        return log_pb2.GetTileResponse(tile=b"".join(tile))

    async def GetEntries(  # noqa: N802 generated name
        self, request: log_pb2.GetEntriesRequest, context: Context
    ) -> log_pb2.GetEntriesResponse:
        """Return a bundle of entries."""
        self._check_size(request.size)
        if request.bundle * TILE_WIDTH >= request.size:
            raise InvalidInput("the log has no such entries at this size")
        entries = await self._read(partial(self._log.reader.bundle, request.bundle, request.size))
        return log_pb2.GetEntriesResponse(entries=encode_bundle(entries))

    async def AddCosignature(  # noqa: N802 generated name
        self, request: log_pb2.AddCosignatureRequest, context: Context
    ) -> log_pb2.AddCosignatureResponse:
        """Take what a known witness cosigned; whoever brings it."""
        try:
            size = await self._read(partial(self._cosigned.add, request.checkpoint))
        except Damaged as error:
            _log.error("ALARM: a witness contradicts the log", reason=error.public)
            raise
        _log.debug("cosigned", size=size)
        return log_pb2.AddCosignatureResponse()

    def _check_size(self, size: int) -> None:
        if size > self._log.size:
            raise InvalidInput("the log has never been that large")

    async def _read(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, work)
