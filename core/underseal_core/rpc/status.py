"""Errors to gRPC statuses and back: one table, one translator for each direction.

Beside the status, trailing metadata carries ``underseal-error`` (the class), ``underseal-hint``
(what to do next) and ``grpc-retry-pushback-ms`` (when to retry, gRFC A6). What is not an
``UndersealError`` becomes INTERNAL with a random incident number, which the log explains.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import grpc

from underseal_core import errors
from underseal_core.errors import (
    Busy,
    Conflict,
    Damaged,
    InvalidInput,
    MalformedCiphertext,
    Mismatch,
    NotFound,
    PermissionRefused,
    StorageFull,
    UndersealError,
    Unreachable,
    Waiting,
)

ERROR_KEY: Final = "underseal-error"
HINT_KEY: Final = "underseal-hint"
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"

MAX_TEXT: Final = 500
"""Characters of text taken from a peer or sent to one: bounds what ends up in logs."""

CODES: Final[Mapping[type[UndersealError], grpc.StatusCode]] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    MalformedCiphertext: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    Conflict: grpc.StatusCode.ALREADY_EXISTS,
    Mismatch: grpc.StatusCode.FAILED_PRECONDITION,
    PermissionRefused: grpc.StatusCode.PERMISSION_DENIED,
    Busy: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Waiting: grpc.StatusCode.ABORTED,
    StorageFull: grpc.StatusCode.UNAVAILABLE,
    Damaged: grpc.StatusCode.DATA_LOSS,
}

_CLASSES: Final[Mapping[grpc.StatusCode, type[UndersealError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInput,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: Mismatch,
    grpc.StatusCode.UNIMPLEMENTED: Mismatch,
    grpc.StatusCode.PERMISSION_DENIED: PermissionRefused,
    grpc.StatusCode.UNAUTHENTICATED: PermissionRefused,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Busy,
    grpc.StatusCode.UNAVAILABLE: Busy,
    grpc.StatusCode.DEADLINE_EXCEEDED: Busy,
    grpc.StatusCode.CANCELLED: Busy,
    grpc.StatusCode.ABORTED: Busy,
}


@dataclass(frozen=True, slots=True)
class Status:
    """What a caller gets: code, public text, trailing metadata."""

    code: grpc.StatusCode
    details: str
    trailing: tuple[tuple[str, str], ...]


def core_class(error: type[UndersealError]) -> type[UndersealError]:
    """Return the nearest class of the table; roles derive their own from these."""
    return next(cls for cls in error.__mro__ if cls in CODES)


def _printable(text: str) -> str:
    """Metadata values must be printable ASCII."""
    line = text[:MAX_TEXT].encode("ascii", "replace").decode()
    return "".join(c if c.isprintable() else " " for c in line)


def to_status(error: Exception, incident: str) -> Status:
    """Translate an error raised while serving.

    Parameters
    ----------
    error
        Anything; only an ``UndersealError`` shows its text.
    incident
        Shown in place of the text of other errors.
    """
    if not isinstance(error, UndersealError) or type(error) is UndersealError:
        return Status(
            grpc.StatusCode.INTERNAL,
            f"internal error, incident {incident}",
            ((HINT_KEY, "tell the operator the incident number"),),
        )
    known = core_class(type(error))
    trailing = [(ERROR_KEY, known.__name__)]
    hint = error.hint or ("call the operator" if isinstance(error, StorageFull | Damaged) else "")
    if hint:
        trailing.append((HINT_KEY, _printable(hint)))
    if isinstance(error, Busy):
        trailing.append((PUSHBACK_KEY, str(error.retry_after_ms)))
    return Status(CODES[known], _printable(error.public), tuple(trailing))


def new_incident() -> str:
    """Return a random incident number."""
    return secrets.token_hex(6)


def _trailing(error: grpc.RpcError) -> dict[str, str]:
    read = getattr(error, "trailing_metadata", None)
    pairs = (read() if read else None) or ()
    return {key: value for key, value in pairs if isinstance(value, str)}


def from_rpc_error(error: grpc.RpcError, *, peer: str = "server") -> UndersealError:
    """Translate a failed call, for callers.

    Parameters
    ----------
    error
        A ``grpc.RpcError`` of the blocking or the asyncio API.
    peer
        What the other side is called in the text: "server", "registrar".

    Returns
    -------
    UndersealError
        Ready to be raised ``from error``.
    """
    code = error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None
    details = (error.details() if code is not None else "") or ""
    details = details[:MAX_TEXT]
    trailing = _trailing(error)
    hint = trailing.get(HINT_KEY, "")[:MAX_TEXT]
    name, pushback = trailing.get(ERROR_KEY, ""), trailing.get(PUSHBACK_KEY, "")
    return named_error(name, details, hint, pushback) or _untold(code, details, hint, peer)


def named_error(name: str, public: str, hint: str, pushback: str) -> UndersealError | None:
    """Return the error that a peer named; ``None`` if there is no class of this name.

    Parameters
    ----------
    name
        As in ``underseal-error``.
    public, hint
        Its texts.
    pushback
        Milliseconds, of :class:`Busy`.
    """
    named = getattr(errors, name, None)
    if not isinstance(named, type) or named not in CODES:
        return None
    return _build(named, public[:MAX_TEXT], hint[:MAX_TEXT], pushback)


def _build(cls: type[UndersealError], public: str, hint: str, pushback: str) -> UndersealError:
    if issubclass(cls, Busy):
        wait = int(pushback) if pushback.isascii() and pushback.isdigit() else 1000
        return cls(public, hint=hint, retry_after_ms=min(wait, 600_000))
    return cls(public, hint=hint)


def _untold(code: grpc.StatusCode | None, details: str, hint: str, peer: str) -> UndersealError:
    """Statuses that gRPC itself made, or another implementation."""
    lowered = details.lower()
    if code is grpc.StatusCode.UNAVAILABLE:
        # Not "handshake read failed": the other side died, or was stopped, before it answered.
        if any(word in lowered for word in ("handshake failed", "certificate")):
            return PermissionRefused(
                f"the {peer} and this program do not accept each other's certificates",
                hint="both must come from the same authority and be in date; check the address",
            )
        return Unreachable(
            f"the {peer} cannot be reached or closed the connection",
            hint="is it running, the address right, the certificate of its authority?",
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in lowered:
        return InvalidInput(f"a message is larger than the {peer} accepts")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unreachable(
            f"the {peer} did not answer in time", hint="try again, or allow more time"
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Mismatch(f"the {peer} does not know this call", hint="the versions differ")
    if code is not None and code in _CLASSES:
        return _CLASSES[code](details or f"the {peer} refused the call", hint=hint)
    return Damaged(f"the {peer} failed: {details or 'no details'}", hint=hint)
