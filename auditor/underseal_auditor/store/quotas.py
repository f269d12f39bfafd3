"""What was said about subjects, and sketches of opened probes, in the process's database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from underseal_auditor.policy.quotas import Use
from underseal_auditor.store.database import Database
from underseal_auditor.store.submission import Submission


class Tallies:
    """Reads what releases have used so far."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def uses(self, key_epoch: str, gallery: str, subjects: Iterable[bytes]) -> dict[bytes, Use]:
        """Return what was said about these subjects, over all clients."""
        found = {}
        with self._database.transaction() as connection:
            for subject in set(subjects):
                row = connection.execute(
                    "SELECT scores, hits FROM subjects"
                    " WHERE key_epoch = ? AND gallery = ? AND subject_id = ?",
                    (key_epoch, gallery, subject),
                ).fetchone()
                if row is not None:
                    found[subject] = Use(*row)
        return found

    def compare(self, submission: Submission, gallery: str, sketch: bytes) -> list[bytes]:
        """Remember the sketch of an opened search, whatever comes of it.

        Returns
        -------
        list of bytes
            Those of the client's other searches in this gallery, with these keys.
        """
        key = (submission.key_epoch, submission.client, gallery, submission.request_id)
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT sketch FROM sketches"
                " WHERE key_epoch = ? AND client = ? AND gallery = ? AND request_id != ?",
                key,
            ).fetchall()
            if sketch:
                connection.execute(
                    "INSERT INTO sketches (key_epoch, client, gallery, request_id, sketch)"
                    " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (*key, sketch),
                )
        return [bytes(row[0]) for row in rows]


def add_uses(
    connection: sqlite3.Connection, key_epoch: str, gallery: str, uses: Mapping[bytes, Use]
) -> None:
    """Add what a release says about its subjects, in the caller's transaction."""
    connection.executemany(
        "INSERT INTO subjects VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET scores = scores + excluded.scores, hits = hits + excluded.hits",
        [(key_epoch, gallery, s, use.scores, use.hits) for s, use in uses.items()],
    )
