"""The enrolment stream: header, then units; each is answered once it is stored, or shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final

from underseal_core.credentials import Peer
from underseal_core.errors import Busy, Damaged, InvalidInput
from underseal_core.gallery.unit_files import StagedUnit
from underseal_proto.v1 import gallery_pb2
from underseal_server import wire
from underseal_server.api.access import check_writer
from underseal_server.engine.hosted import Hosted
from underseal_server.engine.hosting import Hosting
from underseal_server.engine.threads import Threads, finish
from underseal_server.pins import check_pin
from underseal_server.receipts import check_receipt
from underseal_server.store.records import NewTemplate, NewUnit, Receipt, State

IDLE_SECONDS: Final = 60.0
"""A stream that says nothing for so long is ended: it holds a file."""


class EnrolStream:
    """One call of ``Enrol``. Holds one ciphertext in memory at a time.

    Parameters
    ----------
    requests
        The call's messages.
    peer
        Who calls.
    hosting
        The galleries.
    threads
        For disk work.
    clock
        Returns the present as text.
    """

    def __init__(
        self,
        requests: AsyncIterator[gallery_pb2.EnrolRequest],
        peer: Peer,
        hosting: Hosting,
        threads: Threads,
        clock: Callable[[], str],
    ) -> None:
        self._clock = clock
        self._requests = requests
        self._peer = peer
        self._hosting = hosting
        self._pool = threads.store

    async def receipts(self) -> AsyncIterator[Receipt]:
        """Yield the receipt of each unit.

        Raises
        ------
        UndersealError
            For the unit that is not stored; those answered before are.
        """
        first = await self._next()
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidInput("an enrolment begins with its header")
        hosted = await self._hosting.open(wire.name_from_wire(first.header.gallery))
        check_writer(self._peer, hosted.gallery)
        check_pin(wire.pin_from_wire(first.header.pin), hosted.gallery.spec.pin)
        until = wire.answer_from_wire(first.header.answer_when)
        while (part := await self._next()) is not None:
            if part.WhichOneof("part") != "begin":
                raise InvalidInput("a unit begins with its token, shape and number of templates")
            yield await self._unit(hosted, part.begin, until)

    async def _unit(self, hosted: Hosted, begin: gallery_pb2.UnitBegin, until: State) -> Receipt:
        token = wire.id_from_wire(begin.token, "token")
        shape = wire.shape_from_wire(begin.shape)
        capacity = shape.capacity(hosted.gallery.profile, hosted.gallery.dimension)
        if not 1 <= begin.templates <= capacity:
            raise InvalidInput(f"a unit of this shape holds 1 to {capacity} templates")
        templates = await self._templates(begin.templates)
        try:
            with hosted.store.files.stage(shape) as staged:
                unit = await self._ciphertexts(hosted, token, staged, templates)
                return await self._hosting.enrol(hosted, unit, staged, until)
        except Damaged:
            hosted.check()  # its files went with the gallery
            raise

    async def _templates(self, count: int) -> tuple[NewTemplate, ...]:
        templates: list[NewTemplate] = []
        while len(templates) < count:
            batch = (await self._expect("templates")).templates.templates
            templates += [wire.template_from_wire(message) for message in batch]
            if not batch or len(templates) > count:
                raise InvalidInput("the unit's templates are not as many as it announced")
        if len({template.template_id for template in templates}) != count:
            raise InvalidInput("a template id occurs twice in the unit")
        return tuple(templates)

    async def _ciphertexts(
        self,
        hosted: Hosted,
        token: bytes,
        staged: StagedUnit,
        templates: tuple[NewTemplate, ...],
    ) -> NewUnit:
        while not staged.complete:
            part = await self._expect("ciphertext")
            await finish(self._pool, staged.write, part.ciphertext)
        part = await self._expect("receipt")
        envelope = wire.envelope_from_wire(part.receipt)
        unit = NewUnit(
            token, staged.shape, templates, self._peer.name, staged.sha256, staged.size, envelope
        )
        asked = hosted.gallery, unit, self._peer, self._clock()
        receipt = await finish(self._pool, check_receipt, *asked)
        return replace(unit, keep_until=receipt.keep_until)

    async def _expect(self, kind: str) -> gallery_pb2.EnrolRequest:
        part = await self._next()
        if part is None:
            raise InvalidInput("the stream ended within a unit", hint="send the unit again")
        if part.WhichOneof("part") != kind:
            raise InvalidInput(f"the unit's {kind} are due here")
        return part

    async def _next(self) -> gallery_pb2.EnrolRequest | None:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                return await anext(self._requests, None)
        except TimeoutError as error:
            raise Busy("the enrolment stream fell silent", hint="send the unit again") from error
