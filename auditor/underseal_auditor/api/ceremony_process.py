"""A member of a ceremony as a process: serves the others and asks them, until all are done."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from underseal_auditor.api.ceremony_servicer import ACCESS, SERVICE, CeremonyServicer, Desk
from underseal_auditor.connection import MemberConnection
from underseal_auditor.keys import share_file
from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.joining import Farewell, join
from underseal_auditor.keys.member import Member
from underseal_auditor.keys.member_keys import OwnKeys
from underseal_auditor.keys.messages import Round
from underseal_auditor.keys.phases import Outcome
from underseal_auditor.store.ceremony_journal import CeremonyJournal
from underseal_core.bundle import load_bundle
from underseal_core.credentials import Credentials, Role
from underseal_core.errors import Busy, Conflict, InvalidInput, StorageFull
from underseal_core.rpc.guard import Guard
from underseal_core.rpc.listener import Listener
from underseal_core.rpc.tls import own_peer
from underseal_proto.v1 import ceremony_pb2_grpc

RETRY_SECONDS: Final = 0.2

BUNDLE_NAME: Final = "bundle.usb"
SHARE_NAME: Final = "share.sealed"
LABEL_KEY_NAME: Final = "label.sealed"
KEYS_NAME: Final = "member.sealed"
JOURNAL_NAME: Final = "ceremony"


class Interrupted(Busy):
    """The process was told to stop. Start it again: the ceremony goes on where it was."""


@dataclass(frozen=True, slots=True)
class MemberPlace:
    """Where one member keeps what belongs to a ceremony.

    ``state`` holds its keys and the journal until the ceremony is over; ``out`` gets bundle, share
    and, at the registrar, the label key.
    """

    credentials: Path
    state: Path
    out: Path
    listen: str
    peers: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Finished:
    """The key epoch, and members that were out of reach at the end."""

    epoch: str
    unreached: frozenset[int]


class CeremonyProcess:
    """One member's process.

    Raises
    ------
    InvalidInput
        Not a member's credentials, or not exactly the other members' addresses.
    Conflict
        Keys are in the way, or the folder belongs to another ceremony.
    """

    def __init__(self, file: CeremonyFile, place: MemberPlace, passphrase: bytes) -> None:
        self._file = file
        self._place = place
        self._passphrase = passphrase
        self._credentials = Credentials.load(place.credentials)
        self.point = _point(file, self._credentials)
        others = frozenset(range(1, len(file.members) + 1)) - {self.point}
        if set(place.peers) != others:
            raise InvalidInput(
                f"addresses of members {sorted(others)} are needed, and of no others",
                hint="give --peer POINT=HOST:PORT for every other member",
            )
        self._journal = CeremonyJournal(place.state / JOURNAL_NAME, file, self.point, passphrase)
        if self._journal.own(Round.NONCE) is None:
            check_free(place.out)
        self._farewell = Farewell(others)
        self._stopping = threading.Event()

    async def run(
        self, ready: Callable[[str], None], progress: Callable[[Round], None]
    ) -> Finished:
        """Take part until all members are done; SIGINT and SIGTERM interrupt it.

        Parameters
        ----------
        ready
            Called with the address once this member listens.
        progress
            Called after every round, from another thread.

        Raises
        ------
        Interrupted
            A signal came. What was done is on disk.
        CeremonyFailed
            A check failed: the ceremony is void for all.
        """
        desk = Desk(self._file, self._credentials.identity, self._journal, self._farewell)
        register = partial(
            ceremony_pb2_grpc.add_CeremonyServiceServicer_to_server, CeremonyServicer(desk)
        )
        listener = Listener(
            self._place.listen, self._credentials, Guard(ACCESS), [SERVICE], [register]
        )
        port = await listener.start()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        ready(f"{self._place.listen.rpartition(':')[0]}:{port}")
        try:
            return await asyncio.to_thread(self._work, progress)
        finally:
            await listener.stop()

    def _work(self, progress: Callable[[Round], None]) -> Finished:
        with ExitStack() as stack:
            links = {}
            for point, address in self._place.peers.items():
                links[point] = MemberConnection(address, self._credentials, self._file, point)
                stack.callback(links[point].close)
            epoch = self._journal.finished
            if epoch is None:
                keys = OwnKeys.load(self._place.state / KEYS_NAME, self._passphrase)
                identity = self._credentials.identity
                member = Member(self._file, self.point, identity, keys.opening, self._journal)
                outcome = join(member, self._file, links, self._wait, progress)
                epoch = self._save(outcome, keys)
            self._farewell.finish()
            return Finished(epoch, self._farewell.say(links, self._wait))

    def _wait(self) -> None:
        if self._stopping.wait(RETRY_SECONDS):
            raise Interrupted(
                "the ceremony was interrupted", hint="run the same command again to go on"
            )

    def _save(self, outcome: Outcome, keys: OwnKeys) -> str:
        """Write secrets first, then the bundle; then delete what only the ceremony needed."""
        out, epoch = self._place.out, outcome.bundle.epoch
        with outcome.share as share:
            if not (out / SHARE_NAME).exists():
                share_file.save(out / SHARE_NAME, share, self._passphrase)
        share_file.load(out / SHARE_NAME, self._passphrase, epoch).close()
        if keys.label is not None and not (out / LABEL_KEY_NAME).exists():
            path = out / LABEL_KEY_NAME
            share_file.save_label_key(path, keys.label, epoch, self._passphrase)
        outcome.bundle.save(out / BUNDLE_NAME)
        load_bundle(out / BUNDLE_NAME, epoch)
        self._journal.finish(epoch)
        with suppress(FileNotFoundError):
            (self._place.state / KEYS_NAME).unlink()
        return epoch


def check_free(out: Path) -> None:
    """Make the folder, and check that no keys are in it.

    Raises
    ------
    Conflict
        There are.
    StorageFull
        It cannot be made.
    """
    taken = [n for n in (BUNDLE_NAME, SHARE_NAME, LABEL_KEY_NAME) if (out / n).exists()]
    if taken:
        raise Conflict(
            f"{out / taken[0]} exists already",
            hint="keys are never overwritten: choose another folder",
        )
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFull(
            f"cannot write to {out}", hint="choose a folder that you may write to"
        ) from error


def _point(file: CeremonyFile, credentials: Credentials) -> int:
    if own_peer(credentials).role is not Role.AUDITOR:
        raise InvalidInput("the credentials are not an auditor's")
    keys = [member.signing for member in file.members]
    if credentials.identity.public_key not in keys:
        raise InvalidInput(
            "the ceremony file does not name this identity",
            hint="use the credentials that `ceremony prepare` used",
        )
    return keys.index(credentials.identity.public_key) + 1
