"""Servers whose signature an auditor does not accept any more, for good."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from underseal_auditor.store.database import Database
from underseal_auditor.verify.fault import Rule, ServerFault
from underseal_core.errors import NotFound
from underseal_core.statements import utc_text


@dataclass(frozen=True, slots=True)
class FrozenServer:
    """``key``: 32 bytes; ``request_sha256`` names the request whose result broke ``rule``."""

    name: str
    key: bytes
    rule: str
    request_sha256: str
    at: str


class FrozenServers:
    """The frozen keys in an auditor's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def check(self, key: bytes) -> None:
        """Raise ``ServerFault`` if a server's key is frozen."""
        with self._database.transaction() as connection:
            found = connection.execute(
                "SELECT 1 FROM frozen_servers WHERE key = ?", (key,)
            ).fetchone()
        if found is not None:
            raise ServerFault(Rule.FROZEN)

    def freeze(self, name: str, key: bytes, rule: Rule, request_sha256: str, now: datetime) -> None:
        """Freeze a key, durably; the first reason is kept."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO frozen_servers VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (key, name, rule.value, request_sha256, utc_text(now)),
            )

    def all(self) -> list[FrozenServer]:
        """List what is frozen."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT name, key, rule, request_sha256, at FROM frozen_servers ORDER BY at, name"
            ).fetchall()
        return [FrozenServer(*row) for row in rows]

    def unfreeze(self, name: str) -> None:
        """Trust a server again.

        Raises
        ------
        NotFound
            It is not frozen.
        """
        with self._database.transaction() as connection:
            changed = connection.execute(
                "DELETE FROM frozen_servers WHERE name = ?", (name,)
            ).rowcount
        if not changed:
            raise NotFound(f"server {name!r} is not frozen")
