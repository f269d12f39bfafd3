"""Mutual TLS, role table, guard and standard services over a real loopback connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from underseal_core.credentials import Credentials, Peer, Role
from underseal_core.errors import Busy, InvalidInput, NotFound, PermissionRefused
from underseal_core.rpc.access import STANDARD_METHODS, current_peer
from underseal_core.rpc.guard import CALLS_PER_CALLER, Guard
from underseal_core.rpc.listener import Listener
from underseal_core.rpc.status import from_rpc_error
from underseal_core.rpc.tls import check_credentials, open_aio_channel, own_peer
from underseal_server.pki import Authority, issue

TABLE = {
    **STANDARD_METHODS,
    "/test.Echo/Unary": frozenset({Role.CLIENT}),
    "/test.Echo/Stream": frozenset({Role.CLIENT, Role.AUDITOR}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pki")
    authority = Authority.create()
    issue(authority, root / "server", Role.SERVER, "server")
    issue(authority, root / "client", Role.CLIENT, "agency")
    issue(authority, root / "auditor", Role.AUDITOR, "auditor")
    issue(authority, root / "expired", Role.CLIENT, "late", lifetime=timedelta(days=-1))
    issue(Authority.create(), root / "foreign", Role.CLIENT, "agency")
    return root


async def _unary(request: bytes, context: Any) -> bytes:
    match request:
        case b"missing":
            raise NotFound("no such thing", hint="look elsewhere")
        case b"busy":
            raise Busy("full", retry_after_ms=40)
        case b"bug":
            raise ZeroDivisionError("secret detail")
        case b"slow":
            await asyncio.Event().wait()
    return current_peer().uri().encode()


async def _stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for part in request.split():
        if part == b"fail":
            raise InvalidInput("bad part")
        yield part


def _add_echo(server: grpc.aio.Server) -> None:
    methods: dict[str, Any] = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "Stream": grpc.unary_stream_rpc_method_handler(_stream),
        "Unlisted": grpc.unary_unary_rpc_method_handler(_unary),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))


def run(
    folder: Path,
    who: str,
    calls: Callable[..., Awaitable[None]],
    seconds: float = 60,
    others: Sequence[str] = (),
) -> list[tuple[str, grpc.StatusCode]]:
    """Run ``calls`` against a new listener; return what its observer saw."""
    seen: list[tuple[str, grpc.StatusCode]] = []

    async def main() -> None:
        guard = Guard(TABLE, seconds=seconds, observer=lambda m, c, s: seen.append((m, c)))
        listener = Listener(
            "127.0.0.1:0", Credentials.load(folder / "server"), guard, ["test.Echo"], [_add_echo]
        )
        port = await listener.start()
        try:
            async with AsyncExitStack() as stack:
                channels = [
                    await stack.enter_async_context(
                        open_aio_channel(f"127.0.0.1:{port}", Credentials.load(folder / name))
                    )
                    for name in (who, *others)
                ]
                await calls(*channels)
        finally:
            await listener.stop(0)

    asyncio.run(main())
    return seen


async def _call(channel: grpc.aio.Channel, request: bytes, method: str = "Unary") -> Any:
    try:
        return await channel.unary_unary(f"/test.Echo/{method}", bytes, bytes)(request, timeout=20)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


def test_the_servicer_knows_its_caller(folder: Path) -> None:
    async def calls(channel: grpc.aio.Channel) -> None:
        answer = await _call(channel, b"")
        assert Peer.from_uri(answer.decode()) == own_peer(Credentials.load(folder / "client"))

    assert run(folder, "client", calls) == [("/test.Echo/Unary", grpc.StatusCode.OK)]


def test_a_role_that_the_row_does_not_list_is_denied(folder: Path) -> None:
    async def calls(channel: grpc.aio.Channel) -> None:
        with pytest.raises(PermissionRefused, match="role auditor may not call Unary"):
            await _call(channel, b"")
        parts = channel.unary_stream("/test.Echo/Stream", bytes, bytes)(b"a b")
        assert [part async for part in parts] == [b"a", b"b"]

    run(folder, "auditor", calls)


def test_a_method_without_a_row_is_denied(folder: Path) -> None:
    async def calls(channel: grpc.aio.Channel) -> None:
        with pytest.raises(PermissionRefused):
            await _call(channel, b"", "Unlisted")

    run(folder, "client", calls)


def test_errors_arrive_as_raised_and_bugs_as_incidents(folder: Path) -> None:
    async def calls(channel: grpc.aio.Channel) -> None:
        with pytest.raises(NotFound, match="no such thing") as missing:
            await _call(channel, b"missing")
        assert missing.value.hint == "look elsewhere"
        with pytest.raises(Busy) as busy:
            await _call(channel, b"busy")
        assert busy.value.retry_after_ms == 40
        with pytest.raises(grpc.aio.AioRpcError) as bug:
            await channel.unary_unary("/test.Echo/Unary", bytes, bytes)(b"bug")
        assert bug.value.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in str(bug.value)
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await channel.unary_unary("/test.Echo/Nothing", bytes, bytes)(b"")
        assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED

    codes = [code for _, code in run(folder, "client", calls)]
    assert codes == [
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
    ]


def test_a_stream_fails_after_what_it_sent(folder: Path) -> None:
    async def calls(channel: grpc.aio.Channel) -> None:
        call = channel.unary_stream("/test.Echo/Stream", bytes, bytes)(b"a b fail c")
        assert [await call.read(), await call.read()] == [b"a", b"b"]
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call.read()
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(folder, "client", calls)


def test_a_call_ends_at_the_server_s_own_limit(folder: Path) -> None:
    async def calls(channel: grpc.aio.Channel) -> None:
        with pytest.raises(Busy, match="longer than this server allows"):
            await _call(channel, b"slow")

    run(folder, "client", calls, seconds=0.2)


def test_one_caller_does_not_lock_the_others_out(folder: Path) -> None:
    async def calls(greedy: grpc.aio.Channel, other: grpc.aio.Channel) -> None:
        watch = health_pb2_grpc.HealthStub(greedy).Watch
        request = health_pb2.HealthCheckRequest(service="test.Echo")
        watches = [watch(request) for _ in range(CALLS_PER_CALLER)]
        for call in watches:
            await call.read()
        with pytest.raises(Busy, match="too many calls"):
            await _call(greedy, b"")
        stream = other.unary_stream("/test.Echo/Stream", bytes, bytes)
        assert [part async for part in stream(b"a b")] == [b"a", b"b"]
        watches[0].cancel()
        assert await _eventually(greedy)

    run(folder, "client", calls, others=["auditor"])


async def _eventually(channel: grpc.aio.Channel) -> bytes:
    """Call until a place is free: the listener hears of a cancelled call a little later."""
    async with asyncio.timeout(20):
        while True:
            try:
                answer: bytes = await _call(channel, b"")
            except Busy:
                await asyncio.sleep(0)
            else:
                return answer


def test_health_is_served_to_every_role(folder: Path) -> None:
    async def calls(channel: grpc.aio.Channel) -> None:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "test.Echo"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="test.Echo"))
        first = await watch.read()
        assert first.status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()

    run(folder, "auditor", calls)


@pytest.mark.parametrize("who", ["expired", "foreign"])
def test_a_certificate_that_cannot_work_is_refused(folder: Path, who: str) -> None:
    """Both by the caller's own check and, for a caller that does not check, by the listener."""
    theirs = Credentials.load(folder / who)
    trusting = replace(theirs, authority=Credentials.load(folder / "server").authority)
    with pytest.raises(InvalidInput):
        check_credentials(trusting)

    async def calls(good: grpc.aio.Channel) -> None:
        await _call(good, b"")

    async def main() -> None:
        listener = Listener(
            "127.0.0.1:0", Credentials.load(folder / "server"), Guard(TABLE), [], [_add_echo]
        )
        port = await listener.start()
        unchecked = grpc.ssl_channel_credentials(
            trusting.authority, trusting.private_key, trusting.certificate
        )
        try:
            async with grpc.aio.secure_channel(f"127.0.0.1:{port}", unchecked) as channel:
                with pytest.raises((PermissionRefused, Busy)):
                    await _call(channel, b"")
        finally:
            await listener.stop(0)

    asyncio.run(main())
    run(folder, "client", calls)


def test_a_client_s_certificate_cannot_serve(folder: Path) -> None:
    async def main() -> None:
        listener = Listener(
            "127.0.0.1:0", Credentials.load(folder / "client"), Guard(TABLE), [], [_add_echo]
        )
        port = await listener.start()
        try:
            victim = Credentials.load(folder / "auditor")
            async with open_aio_channel(f"127.0.0.1:{port}", victim) as channel:
                with pytest.raises(PermissionRefused, match="certificates"):
                    await _call(channel, b"")
        finally:
            await listener.stop(0)

    asyncio.run(main())


def test_a_handshake_that_is_cut_is_not_blamed_on_certificates(folder: Path) -> None:
    async def main() -> None:
        async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.close()

        dying = await asyncio.start_server(cut, "127.0.0.1", 0)
        port = dying.sockets[0].getsockname()[1]
        async with (
            dying,
            open_aio_channel(f"127.0.0.1:{port}", Credentials.load(folder / "client")) as channel,
        ):
            with pytest.raises(Busy, match="closed the connection"):
                await _call(channel, b"")

    asyncio.run(main())


def test_a_taken_port_is_reported(folder: Path) -> None:
    async def main() -> None:
        make = lambda address: Listener(  # noqa: E731
            address, Credentials.load(folder / "server"), Guard(TABLE), [], [_add_echo]
        )
        first = make("127.0.0.1:0")
        port = await first.start()
        try:
            with pytest.raises(InvalidInput, match="cannot listen"):
                await make(f"127.0.0.1:{port}").start()
        finally:
            await first.stop(0)

    asyncio.run(main())
