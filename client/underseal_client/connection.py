"""Channels to the server and the registrar: mutual TLS, deadlines, errors, safe retries.

A call is repeated only when that is harmless: reading, a unit with its token, a submission with
its request id. The wait follows the peer's pushback, or doubles from a fifth of a second, and is
longer by a random part.
"""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Self, TypeVar

import grpc

from underseal_client.settings import CONFIG_VARIABLE
from underseal_core.credentials import Credentials, Role
from underseal_core.errors import Busy, InvalidInput, Unreachable
from underseal_core.rpc.status import from_rpc_error
from underseal_core.rpc.tls import open_channel, own_peer
from underseal_proto.v1.gallery_pb2_grpc import GalleryServiceStub
from underseal_proto.v1.log_pb2_grpc import LogServiceStub
from underseal_proto.v1.registrar_pb2_grpc import RegistrarServiceStub
from underseal_proto.v1.search_pb2_grpc import SearchServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from underseal_client.settings import ClientSettings

T = TypeVar("T")
Request = TypeVar("Request")
Response = TypeVar("Response")

SERVER: Final = "server"
REGISTRAR: Final = "registrar"
_RANDOM: Final = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to go on when a peer is busy or out of reach.

    Parameters
    ----------
    attempts
        Calls in all.
    within_s
        A peer that is there, but busy, is asked as often as it likes for so many seconds.
    first_wait_s
        Wait after the first one; doubled each time.
    longest_wait_s
        A peer that asks for more is not waited for.
    jitter
        Each wait is longer by a random part of this: those who were refused together do not come
        back together.
    wait
        Waits so many seconds; what it raises ends the repetition.
    """

    attempts: int = 4
    within_s: float = 0.0
    first_wait_s: float = 0.2
    longest_wait_s: float = 15.0
    jitter: float = 0.5
    wait: Callable[[float], object] = time.sleep

    def pause(self, error: Busy, attempt: int, spent_s: float) -> float:
        """Return how many seconds to wait after the ``attempt``-th call, from 1.

        Raises
        ------
        Busy
            The error, when it is of no use to go on.
        """
        asked = error.retry_after_ms / 1000
        own = min(self.longest_wait_s, self.first_wait_s * 2.0 ** (attempt - 1))
        pause = max(asked, own) * _RANDOM.uniform(1.0, 1.0 + self.jitter)
        there = not isinstance(error, Unreachable)
        more = attempt < self.attempts or (there and spent_s + pause <= self.within_s)
        if asked > self.longest_wait_s or not more:
            raise error
        return pause


USUAL: Final = RetryPolicy()
SEARCHING: Final = RetryPolicy(within_s=60.0)
"""Of searches: a server that has much to do says when to come again."""


def retrying(call: Callable[[], T], policy: RetryPolicy = USUAL) -> T:
    """Return ``call()``, repeated while it raises :class:`Busy`.

    Raises
    ------
    Busy
        The last attempt failed as well, or the peer asks for a long wait.
    """
    begun, attempt = time.monotonic(), 0
    while True:
        try:
            return call()
        except Busy as error:
            attempt += 1
            pause = policy.pause(error, attempt, time.monotonic() - begun)
        policy.wait(pause)


class Connection:
    """Both channels, opened when they are first used. Thread-safe.

    Raises
    ------
    InvalidInput
        The credentials cannot be read, do not work, or are not a client's.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        if not settings.credentials.is_dir():
            raise InvalidInput(
                f"there is no credentials folder {settings.credentials}",
                hint=f"use --credentials, or a settings file: --config, {CONFIG_VARIABLE}",
            )
        self.credentials = Credentials.load(settings.credentials)
        self.me = own_peer(self.credentials)
        if self.me.role is not Role.CLIENT:
            raise InvalidInput(
                f"these are credentials of role {self.me.role}, not client",
                hint="ask the operator for a client's credentials",
            )
        self.call_timeout_s = settings.call_timeout_s
        self.stream_timeout_s = settings.stream_timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened; running calls end with an error."""
        for name in ("_server", "_registrar"):
            channel = self.__dict__.pop(name, None)
            if channel is not None:
                channel.close()

    @cached_property
    def _server(self) -> grpc.Channel:
        return open_channel(self._settings.server, self.credentials)

    @cached_property
    def _registrar(self) -> grpc.Channel:
        return open_channel(self._settings.registrar, self.credentials)

    @cached_property
    def galleries(self) -> GalleryServiceStub:
        """The server's galleries."""
        return GalleryServiceStub(self._server)

    @cached_property
    def searches(self) -> SearchServiceStub:
        """The server's searches."""
        return SearchServiceStub(self._server)

    @cached_property
    def registrar(self) -> RegistrarServiceStub:
        """The auditors' front door."""
        return RegistrarServiceStub(self._registrar)

    @cached_property
    def log(self) -> LogServiceStub:
        """The registrar's transparency log."""
        return LogServiceStub(self._registrar)

    def ask(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        peer: str = SERVER,
        repeat: bool = False,
    ) -> Response:
        """Call ``method`` with the deadline of short calls.

        Parameters
        ----------
        repeat
            Whether doing it twice does no harm.

        Raises
        ------
        UndersealError
            What the peer answered, see :func:`underseal_core.rpc.status.from_rpc_error`.
        """

        def call() -> Response:
            with translated(peer):
                return method(request, timeout=self.call_timeout_s)

        return retrying(call) if repeat else call()


@contextmanager
def translated(peer: str) -> Iterator[None]:
    """Turn failures of calls to ``peer`` into our errors."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, peer=peer) from error
