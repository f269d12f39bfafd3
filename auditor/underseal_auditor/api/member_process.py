"""One member of a protocol in rounds as a process: serves the others, and asks them, to the end."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Final

from underseal_auditor.api.ceremony_servicer import ACCESS, SERVICE, CeremonyServicer, Desk
from underseal_auditor.connection import MemberConnection
from underseal_auditor.keys.assembly import Assembly, point_of
from underseal_auditor.keys.joining import Farewell, MemberLink
from underseal_auditor.store.ceremony_journal import CeremonyJournal
from underseal_core.credentials import Credentials, Role
from underseal_core.errors import Busy, InvalidInput
from underseal_core.rpc.guard import Guard
from underseal_core.rpc.listener import Listener
from underseal_core.rpc.tls import own_peer
from underseal_proto.v1 import ceremony_pb2_grpc

RETRY_SECONDS: Final = 0.2

Links = Mapping[int, MemberLink]


class Interrupted(Busy):
    """The process was told to stop. Start it again: the protocol goes on where it was."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What came out, by its id, and members that were out of reach at the end."""

    name: str
    unreached: frozenset[int]


class MemberProcess:
    """One member's listener and its connections to the others.

    Parameters
    ----------
    file
        What all members agreed on.
    listen
        ``HOST:PORT`` where the others reach this one.
    peers
        Addresses of all other members, by point.
    size
        Bytes of a member's message, given round and point.

    Raises
    ------
    InvalidInput
        Not a member's credentials, or not exactly the other members' addresses.
    """

    def __init__(
        self,
        file: Assembly,
        credentials: Credentials,
        listen: str,
        peers: Mapping[int, str],
        size: Callable[[IntEnum, int], int],
    ) -> None:
        if own_peer(credentials).role is not Role.AUDITOR:
            raise InvalidInput("the credentials are not an auditor's")
        self.point = point_of(file, credentials.identity.public_key)
        others = frozenset(range(1, len(file.signing_keys) + 1)) - {self.point}
        if set(peers) != others:
            raise InvalidInput(
                f"addresses of members {sorted(others)} are needed, and of no others",
                hint="give --peer POINT=HOST:PORT for every other member",
            )
        self._file = file
        self._credentials = credentials
        self._listen = listen
        self._peers = peers
        self._size = size
        self._farewell = Farewell(others)
        self._stopping = threading.Event()

    async def run(
        self,
        journal: CeremonyJournal,
        work: Callable[[Links], str],
        ready: Callable[[str], None],
    ) -> Finished:
        """Take part until all members are done; SIGINT and SIGTERM interrupt it.

        Parameters
        ----------
        journal
            What this member shows the others.
        work
            Called in another thread with links to all other members; returns what came out once
            it is on disk.
        ready
            Called with the address once this member listens.

        Raises
        ------
        Interrupted
            A signal came. What was done is on disk.
        """
        desk = Desk(self._file, self._credentials.identity, journal, self._farewell)
        register = partial(
            ceremony_pb2_grpc.add_CeremonyServiceServicer_to_server, CeremonyServicer(desk)
        )
        listener = Listener(self._listen, self._credentials, Guard(ACCESS), [SERVICE], [register])
        port = await listener.start()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        ready(f"{self._listen.rpartition(':')[0]}:{port}")
        try:
            return await asyncio.to_thread(self._work, work)
        finally:
            await listener.stop()

    def wait(self) -> None:
        """Wait before the next attempt.

        Raises
        ------
        Interrupted
            The process is to stop.
        """
        if self._stopping.wait(RETRY_SECONDS):
            raise Interrupted("this was interrupted", hint="run the same command again to go on")

    def _work(self, work: Callable[[Links], str]) -> Finished:
        with ExitStack() as stack:
            links = {}
            for point, address in self._peers.items():
                links[point] = MemberConnection(
                    address, self._credentials, self._file, point, self._size
                )
                stack.callback(links[point].close)
            name = work(links)
            self._farewell.finish()
            return Finished(name, self._farewell.say(links, self.wait))
