from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path

import pytest

from underseal_client import gallery
from underseal_client.connection import Connection, RetryPolicy, retrying
from underseal_client.settings import ClientSettings
from underseal_core.credentials import Role
from underseal_core.errors import Busy, Conflict, InvalidInput, Unreachable
from underseal_server.pki import Authority, issue


class Flaky:
    """Fails with the given errors in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return "done"


def test_busy_peer_is_asked_again_after_its_pushback() -> None:
    waits: list[float] = []
    call = Flaky(Busy("queue full", retry_after_ms=1500), Busy("queue full", retry_after_ms=0))
    assert retrying(call, RetryPolicy(jitter=0, wait=waits.append)) == "done"
    assert waits == [1.5, 0.4]


def test_peer_that_stays_busy_is_given_up() -> None:
    waits: list[float] = []
    call = Flaky(*[Busy("queue full", retry_after_ms=0)] * 10)
    with pytest.raises(Busy):
        retrying(call, RetryPolicy(attempts=3, jitter=0, wait=waits.append))
    assert call.calls == 3
    assert waits == [0.2, 0.4]


def test_peers_that_were_refused_together_do_not_come_back_together() -> None:
    waits: list[float] = []
    for _ in range(20):
        call = Flaky(Busy("queue full", retry_after_ms=1000))
        assert retrying(call, RetryPolicy(wait=waits.append)) == "done"
    assert all(1.0 <= wait <= 1.5 for wait in waits)
    assert len(set(waits)) > 10


def test_a_peer_that_is_there_is_asked_for_longer_than_one_that_is_not() -> None:
    waits: list[float] = []
    policy = RetryPolicy(attempts=2, within_s=60.0, wait=waits.append)
    busy = Flaky(*[Busy("queue full", retry_after_ms=100)] * 10)
    assert retrying(busy, policy) == "done"
    gone = Flaky(*[Unreachable("nobody there")] * 10)
    with pytest.raises(Unreachable):
        retrying(gone, policy)
    assert gone.calls == 2


def test_long_pushback_is_not_waited_for() -> None:
    waits: list[float] = []
    call = Flaky(Busy("maintenance", retry_after_ms=60_000))
    with pytest.raises(Busy):
        retrying(call, RetryPolicy(wait=waits.append))
    assert waits == []


def test_other_errors_are_not_repeated() -> None:
    waits: list[float] = []
    call = Flaky(Conflict("taken"))
    with pytest.raises(Conflict):
        retrying(call, RetryPolicy(wait=waits.append))
    assert (call.calls, waits) == (1, [])


def test_missing_credentials_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="credentials") as raised:
        Connection(ClientSettings(credentials=tmp_path / "nowhere"))
    assert "--credentials" in raised.value.hint


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create()


def credentials(
    authority: Authority, folder: Path, role: Role, lifetime: timedelta = timedelta(days=1)
) -> Path:
    issue(authority, folder, role, "somebody", lifetime=lifetime)
    return folder


def test_only_a_clients_credentials_are_used(authority: Authority, tmp_path: Path) -> None:
    folder = credentials(authority, tmp_path / "operator", Role.OPERATOR)
    with pytest.raises(InvalidInput, match="role operator"):
        Connection(ClientSettings(credentials=folder))


def test_expired_certificate_is_said_to_be_expired(authority: Authority, tmp_path: Path) -> None:
    expired = timedelta(days=-1)
    folder = credentials(authority, tmp_path / "client", Role.CLIENT, lifetime=expired)
    connection = Connection(ClientSettings(credentials=folder))
    with connection, pytest.raises(InvalidInput, match="expired"):
        gallery.describe(connection, "people")


def test_server_that_is_not_there_is_said_to_be_unreachable(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    folder = credentials(authority, tmp_path / "client", Role.CLIENT)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        address = f"localhost:{taken.getsockname()[1]}"
        connection = Connection(ClientSettings(credentials=folder, server=address))
        with connection, pytest.raises(Busy, match="cannot be reached"):
            gallery.describe(connection, "people")
