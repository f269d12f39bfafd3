from __future__ import annotations

import grpc
import pytest

from underseal_core import errors
from underseal_core.errors import Busy, Damaged, InvalidInput, UndersealError, Unreachable
from underseal_core.rpc.status import CODES, HINT_KEY, PUSHBACK_KEY, from_rpc_error, to_status

ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, UndersealError) and value is not UndersealError
]


class FailedCall(grpc.aio.AioRpcError):
    def __init__(
        self, code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details)


def test_every_error_class_has_a_row() -> None:
    """But the one that callers make themselves: who cannot be reached does not say so."""
    assert set(ALL) == {*CODES, Unreachable}


@pytest.mark.parametrize("cls", CODES)
def test_an_error_survives_the_way_over_the_wire(cls: type[UndersealError]) -> None:
    status = to_status(cls("what happened", hint="what to do"), "0")
    back = from_rpc_error(FailedCall(status.code, status.details, status.trailing))
    assert type(back) is cls
    assert (back.public, back.hint) == ("what happened", "what to do")


def test_a_role_s_own_error_travels_as_its_core_class() -> None:
    class GalleryFull(InvalidInput):
        pass

    status = to_status(GalleryFull("full"), "0")
    assert status.code is grpc.StatusCode.INVALID_ARGUMENT
    assert type(from_rpc_error(FailedCall(status.code, "full", status.trailing))) is InvalidInput


def test_a_peer_that_cannot_reach_another_is_busy_itself() -> None:
    status = to_status(Unreachable("the guardian cannot be reached"), "0")
    assert type(from_rpc_error(FailedCall(status.code, "x", status.trailing))) is Busy


def test_busy_carries_its_pushback() -> None:
    status = to_status(Busy("full", retry_after_ms=250), "0")
    assert (PUSHBACK_KEY, "250") in status.trailing
    back = from_rpc_error(FailedCall(status.code, status.details, status.trailing))
    assert isinstance(back, Busy)
    assert back.retry_after_ms == 250


def test_an_unexpected_error_shows_its_incident_only() -> None:
    status = to_status(KeyError("secret path /srv/x"), "abc123")
    assert status.code is grpc.StatusCode.INTERNAL
    assert "secret" not in status.details + str(status.trailing)
    assert "abc123" in status.details


def test_hints_are_printable_ascii() -> None:
    status = to_status(InvalidInput("a\nb", hint="é\r\nx: y"), "0")
    assert dict(status.trailing)[HINT_KEY] == "?  x: y"
    assert status.details == "a b"


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Ssl handshake failed: X", errors.PermissionRefused),
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", Unreachable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", InvalidInput),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", Unreachable),
        (grpc.StatusCode.UNIMPLEMENTED, "", errors.Mismatch),
        (grpc.StatusCode.INTERNAL, "internal error, incident 1", Damaged),
        (grpc.StatusCode.NOT_FOUND, "gone", errors.NotFound),
    ],
)
def test_statuses_of_grpc_itself_become_clear_errors(
    code: grpc.StatusCode, details: str, expected: type[UndersealError]
) -> None:
    assert type(from_rpc_error(FailedCall(code, details))) is expected


def test_a_peer_cannot_name_a_class_outside_the_table() -> None:
    hostile = (("underseal-error", "annotations"), ("underseal-error", "UndersealError"))
    error = from_rpc_error(FailedCall(grpc.StatusCode.NOT_FOUND, "x", hostile))
    assert type(error) is errors.NotFound
