"""Provisional releases: what is due, what was filed, what was revoked."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from underseal_auditor.store.database import Database
from underseal_auditor.store.envelopes import pack_envelope
from underseal_core.errors import Damaged
from underseal_core.log_entries import Logged
from underseal_core.signing import Envelope
from underseal_core.statements import utc_text


@dataclass(frozen=True, slots=True)
class Provisional:
    """A release that needs a warrant. ``filed`` and ``revocation``: entries, empty parts if none.

    ``release``: the payload of the signed release.
    """

    client: str
    request_id: str
    request_sha256: str
    purpose: str
    release: bytes
    deadline: str
    filed: Logged
    revocation: Logged


class WarrantStore:
    """Reads and writes them in the registrar's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, client: str, request_id: str) -> Provisional | None:
        """Return one of a client's provisional releases."""
        found = self._select("client = ? AND request_id = ?", (client, request_id))
        return found[0] if found else None

    def due(self, now: datetime) -> list[Provisional]:
        """Return what must be revoked now, also what a crash left half-revoked."""
        where = "warrant_deadline < ? AND filed_entry = x'' AND revocation_receipt = x''"
        return self._select(where, (utc_text(now),))

    def unlogged(self) -> list[Provisional]:
        """Return those whose filed warrant a crash kept out of the log."""
        return self._select("filed_entry != x'' AND filed_receipt = x''", ())

    def file(self, one: Provisional, warrant: Envelope, entry: bytes) -> None:
        """Keep a warrant and the entry that is about to be logged."""
        self._update(one, "warrant = ?, filed_entry = ?", (pack_envelope(warrant), entry))

    def filed(self, one: Provisional, receipt: bytes) -> None:
        """Keep the receipt of that entry."""
        self._update(one, "filed_receipt = ?", (receipt,))

    def revoke(self, one: Provisional, entry: bytes) -> None:
        """Keep the revocation that is about to be logged."""
        self._update(one, "revocation_entry = ?", (entry,))

    def revoked(self, one: Provisional, receipt: bytes) -> None:
        """Keep the receipt of that entry."""
        self._update(one, "revocation_receipt = ?", (receipt,))

    def _select(self, where: str, values: tuple[object, ...]) -> list[Provisional]:
        with self._database.transaction() as connection:
            cursor = connection.cursor()
            cursor.row_factory = sqlite3.Row
            rows = cursor.execute(
                f"SELECT * FROM answers WHERE warrant_deadline != '' AND {where}"  # noqa: S608
                " ORDER BY warrant_deadline",
                values,
            ).fetchall()
        return [_provisional(row) for row in rows]

    def _update(self, one: Provisional, change: str, values: tuple[object, ...]) -> None:
        with self._database.transaction() as connection:
            changed = connection.execute(
                f"UPDATE answers SET {change} WHERE client = ? AND request_id = ?",  # noqa: S608
                (*values, one.client, one.request_id),
            ).rowcount
            if changed != 1:
                raise Damaged("the release is not stored")


def _provisional(row: sqlite3.Row) -> Provisional:
    return Provisional(
        client=row["client"],
        request_id=row["request_id"],
        request_sha256=row["request_sha256"],
        purpose=row["purpose"],
        release=row["payload"],
        deadline=row["warrant_deadline"],
        filed=Logged(row["filed_entry"], row["filed_receipt"]),
        revocation=Logged(row["revocation_entry"], row["revocation_receipt"]),
    )
