"""Ids of signed requests: each is answered once, also across restarts."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from underseal_core.errors import Conflict
from underseal_server.store.database import Database
from underseal_server.store.schema import requests

# Built once: to build them takes as long as to execute them.
_INSERT: Final = requests.insert()
_EXPIRED: Final = requests.delete().where(requests.c.expires_at < sa.bindparam("now"))
_MINUTE: Final = len("2026-01-01T00:00")


class Requests:
    """The table of request ids; the first claim of a minute deletes those that have expired."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._purged = ""
        """The minute in which those that have expired were last deleted."""

    def claim(self, request_id: str, client: str, expires_at: str, now: str) -> None:
        """Record a request; once a minute, forget those that nobody would accept any more.

        Parameters
        ----------
        request_id, client
            From the signed request.
        expires_at
            Until when the id is remembered; no earlier than the request may be used.
        now
            The present, in the same format: UTC text, which sorts by time.

        Raises
        ------
        Conflict
            The id was used before.
        """
        row = {"request_id": request_id, "client": client, "expires_at": expires_at}
        minute = now[:_MINUTE]
        try:
            with self._database.writing() as connection:
                if minute != self._purged:
                    connection.execute(_EXPIRED, {"now": now})
                connection.execute(_INSERT, row)
        except sa.exc.IntegrityError as error:
            raise Conflict(
                "duplicate request id", hint="sign a new request with a new random id"
            ) from error
        self._purged = minute
