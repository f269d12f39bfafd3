"""Submissions that wait for a person: kept whole, a bounded number of them, until they expire."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from underseal_auditor.store.database import Database
from underseal_auditor.store.envelopes import pack_envelope, unpack_envelope
from underseal_auditor.store.submission import Submission
from underseal_auditor.verify.chain import Place
from underseal_core.errors import Busy, Conflict, NotFound
from underseal_core.scheme.ciphertext import Kind
from underseal_core.signing import Envelope
from underseal_core.statements import SearchRequest, utc_text

MAX_PENDING: Final = 256
MAX_PENDING_OF_CLIENT: Final = 32
MAX_PENDING_BYTES: Final = 1 << 30
"""Of ciphertexts, together."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A submission that waits: both statements as signed; times as in statements, UTC."""

    client: str
    request_id: str
    request_sha256: str
    result_sha256: str
    request: Envelope
    result: Envelope
    submitted_at: str
    expires_at: str

    @property
    def purpose(self) -> str:
        """What the request is for; its signature was checked when it came."""
        return SearchRequest.parse(self.request.payload).purpose


class PendingStore:
    """Keeps them in the registrar's database, with what approvers decided."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self,
        submission: Submission,
        envelopes: tuple[Envelope, Envelope],
        sealed: Mapping[Place, bytes],
        now: datetime,
        expires: datetime,
    ) -> None:
        """Keep a submission; once more is once.

        Raises
        ------
        Busy
            Too many wait already.
        Conflict
            Another one with this request id waits.
        """
        request, result = (pack_envelope(envelope) for envelope in envelopes)
        owner = (submission.client, submission.request_id)
        size = sum(map(len, sealed.values()))
        with self._database.transaction() as connection:
            _purge(connection, now)
            kept = _row(connection, *owner)
            if kept is not None:
                if (kept["request"], kept["result"]) != (request, result):
                    raise Conflict("this request id waits with other content")
                return
            _check_room(connection, submission.client, size)
            connection.execute(
                "INSERT INTO pending VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*owner, submission.request_sha256, submission.result_sha256, request, result,
                 size, utc_text(now), utc_text(expires)),
            )  # fmt: skip
            connection.executemany(
                "INSERT INTO pending_sealed VALUES (?, ?, ?, ?, ?)",
                [(*owner, place.kind.name, place.block, data) for place, data in sealed.items()],
            )

    def find(self, client: str, request_id: str, now: datetime) -> Pending | None:
        """Return one that waits."""
        with self._database.transaction() as connection:
            _purge(connection, now)
            row = _row(connection, client, request_id)
        return None if row is None else _pending(row)

    def all(self, now: datetime) -> list[Pending]:
        """Return all that wait, oldest first."""
        with self._database.transaction() as connection:
            _purge(connection, now)
            cursor = connection.cursor()
            cursor.row_factory = sqlite3.Row
            rows = cursor.execute("SELECT * FROM pending ORDER BY submitted_at").fetchall()
        return [_pending(row) for row in rows]

    def sealed(self, client: str, request_id: str) -> dict[Place, bytes]:
        """Return the ciphertexts of one that waits."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT kind, block, data FROM pending_sealed WHERE client = ? AND request_id = ?",
                (client, request_id),
            ).fetchall()
        return {Place(Kind[kind], block): bytes(data) for kind, block, data in rows}

    def decide(self, pending: Pending, approver: str, envelope: Envelope) -> None:
        """Keep what a person decided about one that waits, in place of what the same said before.

        Raises
        ------
        NotFound
            It does not wait any more.
        """
        with self._database.transaction() as connection:
            if _row(connection, pending.client, pending.request_id) is None:
                raise NotFound("no such request waits for approval")
            connection.execute(
                "INSERT INTO approvals VALUES (?, ?, ?, ?)"
                " ON CONFLICT (client, request_id, approver) DO UPDATE SET entry = excluded.entry",
                (pending.client, pending.request_id, approver, pack_envelope(envelope)),
            )

    def approvals(self, client: str, request_id: str) -> tuple[Envelope, ...]:
        """Return what persons decided about one that waits."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT entry FROM approvals WHERE client = ? AND request_id = ? ORDER BY approver",
                (client, request_id),
            ).fetchall()
        return tuple(unpack_envelope(bytes(row[0])) for row in rows)

    def forget(self, client: str, request_id: str) -> None:
        """Drop one that was answered."""
        with self._database.transaction() as connection:
            _drop(connection, client, request_id)


def _check_room(connection: sqlite3.Connection, client: str, size: int) -> None:
    total, used, own = connection.execute(
        "SELECT count(*), total(size), total(client = ?) FROM pending", (client,)
    ).fetchone()
    full = total >= MAX_PENDING or used + size > MAX_PENDING_BYTES
    if full or own >= MAX_PENDING_OF_CLIENT:
        raise Busy(
            "too many requests wait for approval",
            retry_after_ms=600_000,
            hint="submit again when some of them are decided",
        )


def _purge(connection: sqlite3.Connection, now: datetime) -> None:
    old = connection.execute(
        "SELECT client, request_id FROM pending WHERE expires_at < ?", (utc_text(now),)
    ).fetchall()
    for client, request_id in old:
        _drop(connection, client, request_id)


def _drop(connection: sqlite3.Connection, client: str, request_id: str) -> None:
    for table in ("pending", "pending_sealed", "approvals"):
        connection.execute(
            f"DELETE FROM {table} WHERE client = ? AND request_id = ?",  # noqa: S608 own names
            (client, request_id),
        )


def _row(connection: sqlite3.Connection, client: str, request_id: str) -> sqlite3.Row | None:
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    row: sqlite3.Row | None = cursor.execute(
        "SELECT * FROM pending WHERE client = ? AND request_id = ?", (client, request_id)
    ).fetchone()
    return row


def _pending(row: sqlite3.Row) -> Pending:
    return Pending(
        client=row["client"],
        request_id=row["request_id"],
        request_sha256=row["request_sha256"],
        result_sha256=row["result_sha256"],
        request=unpack_envelope(row["request"]),
        result=unpack_envelope(row["result"]),
        submitted_at=row["submitted_at"],
        expires_at=row["expires_at"],
    )
