"""The next key epoch, for whoever comes with the one before: switching key and bundle."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from underseal_core.errors import NotFound
from underseal_proto.v1 import gallery_pb2
from underseal_server.engine.keys import KeyEpochs, SwitchingKeys
from underseal_server.engine.threads import Threads, finish

PIECE_BYTES: Final = 1 << 20


class Successions:
    """Sends what leads on from a key epoch; the receiver checks all signatures."""

    def __init__(self, epochs: KeyEpochs, switching: SwitchingKeys, threads: Threads) -> None:
        self._epochs = epochs
        self._switching = switching
        self._pool = threads.store

    async def parts(self, epoch: str) -> AsyncIterator[gallery_pb2.GetSuccessorResponse]:
        """Yield the switching key, then the bundle, in pieces.

        Raises
        ------
        NotFound
            No key epoch follows this one.
        """
        key = await finish(self._pool, self._switching.successor, epoch)
        if key is None:
            raise NotFound("no key epoch follows this one")
        bundle = await finish(self._pool, self._epochs.bundle, key.new_epoch)
        for piece in _pieces(key.to_bytes()):
            yield gallery_pb2.GetSuccessorResponse(switching_key=piece)
        for piece in _pieces(bundle.to_bytes()):
            yield gallery_pb2.GetSuccessorResponse(bundle=piece)


def _pieces(data: bytes) -> list[bytes]:
    return [data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES)]
