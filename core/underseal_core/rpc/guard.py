"""The interceptor around every call: identity, role table, limits, errors, log, metrics."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc
import structlog

from underseal_core.errors import Busy
from underseal_core.rpc.access import AccessTable, Context, admit
from underseal_core.rpc.status import Status, new_incident, to_status

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

_log: Final = structlog.get_logger("underseal.rpc")

WATCH: Final = "/grpc.health.v1.Health/Watch"
"""Open-ended by its specification, hence without a time limit."""

CALLS_PER_CALLER: Final = 64
"""Calls that one certificate's holder may have open: an eighth of what a listener serves, so that
no caller locks the others out."""


class CallObserver(Protocol):
    """Told about every finished call, for metrics."""

    def __call__(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """Record one call: full method name, outcome, time from admission to the end."""


def _ignore(method: str, code: grpc.StatusCode, seconds: float) -> None:
    """Observe nothing."""


class Guard(grpc.aio.ServerInterceptor):
    """Admits, limits, translates and records every call of one listener.

    Parameters
    ----------
    table
        Rows for every method; a missing row means denied.
    seconds
        Longest time a call may take, even if the caller allows more.
    observer
        Metrics, if any.
    per_caller
        Most calls of one caller at a time.
    """

    def __init__(
        self,
        table: AccessTable,
        *,
        seconds: float = 3600.0,
        observer: CallObserver = _ignore,
        per_caller: int = CALLS_PER_CALLER,
    ) -> None:
        self._table = table
        self._seconds = seconds
        self._observer = observer
        self._per_caller = per_caller
        self._open: Counter[str] = Counter()
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the method's handler, once; unknown methods stay UNIMPLEMENTED."""
        method = handler_call_details.method
        if method not in self._wrapped:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            self._wrapped[method] = self._wrap(method, handler)
        return self._wrapped[method]

    def _wrap(self, method: str, handler: Handler) -> Handler:
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        inner = getattr(handler, kind)

        async def unary(request: Any, context: Context) -> Any:
            async with self._around(method, context):
                return await inner(request, context)

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            async with self._around(method, context):
                answers = inner(request, context)
                if inspect.isawaitable(answers):
                    await answers  # it writes through the context
                else:
                    async for answer in answers:
                        yield answer

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        wrapped: Handler = make(
            stream if handler.response_streaming else unary,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    @asynccontextmanager
    async def _around(self, method: str, context: Context) -> AsyncIterator[None]:
        start = time.monotonic()
        code = grpc.StatusCode.OK
        caller = ""
        reason = ""
        try:
            peer = admit(self._table, method, context)
            caller = f"{peer.role}/{peer.name}"
            limit = None if method == WATCH else self._seconds
            with self._place(caller):
                async with asyncio.timeout(limit):
                    yield
        except (asyncio.CancelledError, GeneratorExit):
            code = grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            code, reason = context.code() or grpc.StatusCode.UNKNOWN, context.details()
            raise
        except Exception as error:  # noqa: BLE001  # the one place where every error ends
            status = answer_to(error, method, caller)
            code, reason = status.code, status.details
            await context.abort(code, reason, status.trailing)
        finally:
            seconds = time.monotonic() - start
            self._observer(method, code, seconds)
            spent = round(seconds, 4)
            facts = {"method": method, "caller": caller, "code": code.name, "seconds": spent}
            if reason:
                _log.warning("call", **facts, reason=reason)
            else:
                _log.info("call", **facts)

    @contextmanager
    def _place(self, caller: str) -> Iterator[None]:
        if self._open[caller] >= self._per_caller:
            raise Busy("too many calls of this caller are open", hint="end some of them first")
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]


def refusal(error: Exception, method: str, caller: str) -> Status:
    """Return what a caller is told of a part of a call that failed, and log it.

    Parameters
    ----------
    error, method, caller
        As for :func:`answer_to`.
    """
    status = answer_to(error, method, caller)
    if status.code is not grpc.StatusCode.INTERNAL:
        _log.warning("refused", method=method, caller=caller, reason=status.details)
    return status


def answer_to(error: Exception, method: str, caller: str) -> Status:
    """Return what a caller is told of an error; log one that nobody expected.

    Parameters
    ----------
    error
        Anything; see :func:`~underseal_core.rpc.status.to_status`.
    method
        Full name of the method.
    caller
        Role and name: ``client/agency``.
    """
    if isinstance(error, TimeoutError):
        error = Busy("the call took longer than this server allows", hint="ask for less")
    incident = new_incident()
    status = to_status(error, incident)
    if status.code is grpc.StatusCode.INTERNAL:
        _log.error("unexpected", method=method, caller=caller, incident=incident, exc_info=error)
    return status
