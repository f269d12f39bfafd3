"""One amendment: the ciphertexts that take a unit's place, and what k auditors signed for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from underseal_core.amendment import open_amendment
from underseal_core.errors import Busy, Conflict, InvalidInput, NotFound
from underseal_core.gallery.unit_files import StagedUnit
from underseal_core.roster import follow
from underseal_proto.v1 import gallery_pb2
from underseal_server import wire
from underseal_server.engine.hosted import Hosted
from underseal_server.engine.hosting import Hosting
from underseal_server.engine.keys import KeyEpochs, SwitchingKeys
from underseal_server.engine.threads import Threads, finish
from underseal_server.store.amendments import SignedAmendment
from underseal_server.store.records import StoredUnit

IDLE_SECONDS: Final = 60.0
MAX_SUCCESSIONS: Final = 1000


class Amending:
    """Takes amendments for galleries that stay under their keys."""

    def __init__(
        self, hosting: Hosting, epochs: KeyEpochs, switching: SwitchingKeys, threads: Threads
    ) -> None:
        self._hosting = hosting
        self._epochs = epochs
        self._switching = switching
        self._pool = threads.store

    async def amend(self, requests: AsyncIterator[gallery_pb2.AmendUnitRequest]) -> StoredUnit:
        """Store an amendment, and return the unit as it is afterwards.

        Raises
        ------
        Conflict
            The gallery is on its way to other keys, or the unit is not as the amendment says.
        UndersealError
            See :func:`open_amendment` and ``Hosting.amend``.
        """
        first = await _next(requests)
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidInput("an amendment begins with its header")
        hosted = await self._hosting.open(wire.name_from_wire(first.header.gallery))
        amendment = await finish(self._pool, self._opened, hosted, first.header)
        token = bytes.fromhex(amendment.statement.token)
        unit = await self._hosting.live_unit(hosted, token)
        with hosted.store.files.stage(unit.shape) as staged:
            await self._receive(requests, staged, amendment)
            return await self._hosting.amend(hosted, unit, amendment, staged)

    def _opened(self, hosted: Hosted, header: gallery_pb2.AmendUnitHeader) -> SignedAmendment:
        """Check who signed it, by the gallery's own key epoch."""
        pin = hosted.gallery.spec.pin
        if self._switching.successor(pin.key_epoch) is not None:
            raise Conflict("the gallery is moving to new keys", hint="erase again when it is there")
        if len(header.successions) > MAX_SUCCESSIONS:
            raise InvalidInput(f"there are at most {MAX_SUCCESSIONS} successions")
        rosters = follow(self._epochs.bundle(pin.key_epoch), header.successions)
        envelope = wire.envelope_from_wire(header.amendment)
        statement = open_amendment(envelope, rosters)
        if (statement.gallery, statement.pin) != (hosted.gallery.name, pin):
            raise NotFound("the amendment is of another gallery or other keys")
        return SignedAmendment(statement, envelope)

    async def _receive(
        self,
        requests: AsyncIterator[gallery_pb2.AmendUnitRequest],
        staged: StagedUnit,
        amendment: SignedAmendment,
    ) -> None:
        while not staged.complete:
            part = await _next(requests)
            if part is None or part.WhichOneof("part") != "ciphertext":
                raise InvalidInput("the amendment's ciphertexts are due here")
            await finish(self._pool, staged.write, part.ciphertext)
        if staged.sha256.hex() != amendment.statement.new_sha256:
            raise InvalidInput("the ciphertexts are not those that the auditors signed for")


async def _next(
    requests: AsyncIterator[gallery_pb2.AmendUnitRequest],
) -> gallery_pb2.AmendUnitRequest | None:
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            return await anext(requests, None)
    except TimeoutError as error:
        raise Busy("the amendment fell silent", hint="send it again") from error
