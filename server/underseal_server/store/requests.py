"""Ids of signed requests: each is answered once, also across restarts."""

from __future__ import annotations

import sqlalchemy as sa

from underseal_core.errors import Conflict
from underseal_server.store.database import Database
from underseal_server.store.schema import requests


class Requests:
    """The table of request ids, kept until they have expired."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, request_id: str, client: str, expires_at: str, now: str) -> None:
        """Record a request, and forget those that nobody would accept any more.

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
        try:
            with self._database.writing() as connection:
                connection.execute(requests.delete().where(requests.c.expires_at < now))
                connection.execute(
                    requests.insert().values(
                        request_id=request_id, client=client, expires_at=expires_at
                    )
                )
        except sa.exc.IntegrityError as error:
            raise Conflict(
                "duplicate request id", hint="sign a new request with a new random id"
            ) from error
