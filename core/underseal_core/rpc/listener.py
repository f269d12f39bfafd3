"""A gRPC listener with mutual TLS, guard, health and reflection, that stops on a signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from underseal_core.credentials import Credentials
from underseal_core.errors import InvalidInput
from underseal_core.rpc.guard import Guard
from underseal_core.rpc.tls import SERVER_OPTIONS, server_credentials

MAX_CALLS = 512
"""Calls served at a time; more are refused with RESOURCE_EXHAUSTED by gRPC itself."""

Register = Callable[[grpc.aio.Server], None]
"""Adds one servicer to a server: ``partial(add_XServicer_to_server, servicer)``."""


class Listener:
    """One listening port.

    Parameters
    ----------
    address
        ``host:port``; port 0 takes a free one.
    credentials
        Own certificate; callers need one of the same authority.
    guard
        Admits and records every call.
    services
        Full names of the services that ``register`` adds, for health and reflection.
    register
        Called once with the server.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        guard: Guard,
        services: Sequence[str],
        register: Sequence[Register],
    ) -> None:
        self._address = address
        self._services = tuple(services)
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=(guard,), options=SERVER_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS
        )
        for add in register:
            add(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._credentials = server_credentials(credentials)

    async def start(self) -> int:
        """Start listening and return the port.

        Raises
        ------
        InvalidInput
            The address cannot be listened on.
        """
        try:
            port = self._server.add_secure_port(self._address, self._credentials)
        except RuntimeError as error:
            raise InvalidInput(
                f"cannot listen on {self._address}",
                hint="write host:port of this machine; is the port free?",
            ) from error
        await self._server.start()
        for name in self._services:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        structlog.get_logger("underseal.rpc").info("listening", port=port)
        return port

    async def stop(self, grace: float = 5.0) -> None:
        """Refuse new calls, give running ones ``grace`` seconds, then cancel them."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)

    async def serve_until_signal(self, grace: float = 5.0) -> None:
        """Return after SIGINT or SIGTERM and :meth:`stop`."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        await stopping.wait()
        await self.stop(grace)
