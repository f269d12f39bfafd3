"""A guardian's own record: a request and its ciphertexts are answered once, in any active set.

    take      before the first answer leaves: the request id, every ciphertext, and the largest
              charge that the policy allows
    settle    the release, with the charge that it states in place of the largest one

What was taken and never settled stays charged in full, and is never answered again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from underseal_auditor.store.database import Database
from underseal_auditor.store.quotas import add_uses
from underseal_auditor.store.submission import Cost, Submission
from underseal_core.errors import Conflict
from underseal_core.signing import Envelope
from underseal_core.statements import utc_text

_HINT = "search again with a fresh probe"


class Docket:
    """Writes a guardian's record into its database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def check_new(self, submission: Submission) -> None:
        """Check that the request was never answered.

        Raises
        ------
        Conflict
            It was.
        """
        with self._database.transaction() as connection:
            _check_request(connection, submission)

    def take(
        self, submission: Submission, openings: Sequence[bytes], charge: int, now: datetime
    ) -> None:
        """Take the request id and every ciphertext for good, and charge in advance.

        Parameters
        ----------
        openings
            SHA-256 of the second component of each ciphertext.

        Raises
        ------
        Conflict
            The request or one of its ciphertexts was answered before, or is there twice.
        """
        owner = (submission.client, submission.request_id)
        with self._database.transaction() as connection:
            _check_request(connection, submission)
            connection.execute(
                "INSERT INTO answers (client, request_id, request_sha256, result_sha256,"
                " key_epoch, state, values_charged, began_at)"
                " VALUES (?, ?, ?, ?, ?, 'opening', ?, ?)",
                (*owner, submission.request_sha256, submission.result_sha256,
                 submission.key_epoch, charge, utc_text(now)),
            )  # fmt: skip
            for digest in openings:
                changed = connection.execute(
                    "INSERT INTO openings VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    (digest, *owner),
                ).rowcount
                if changed != 1:
                    raise Conflict("a ciphertext of this result was answered before", hint=_HINT)
            _add(connection, submission.key_epoch, charge)

    def settle(self, submission: Submission, release: Envelope, cost: Cost, now: datetime) -> None:
        """Store the release and replace the charge in advance by the cost that it states.

        Raises
        ------
        Conflict
            The request was not taken, or is settled.
        """
        owner = (submission.client, submission.request_id)
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT values_charged FROM answers"
                " WHERE client = ? AND request_id = ? AND state = 'opening'",
                owner,
            ).fetchone()
            if row is None:
                raise Conflict("the request is not being answered")
            connection.execute(
                "UPDATE answers SET state = 'released', payload_type = ?, payload = ?,"
                " values_charged = ?, weight = ?, answered_at = ?"
                " WHERE client = ? AND request_id = ?",
                (release.payload_type, release.payload, cost.charge, cost.weight, utc_text(now),
                 *owner),
            )  # fmt: skip
            _add(connection, submission.key_epoch, cost.charge - int(row[0]))
            add_uses(connection, submission.key_epoch, cost.gallery, cost.uses)


def _check_request(connection: sqlite3.Connection, submission: Submission) -> None:
    found = connection.execute(
        "SELECT 1 FROM answers WHERE client = ? AND request_id = ?",
        (submission.client, submission.request_id),
    ).fetchone()
    if found is not None:
        raise Conflict("this request was answered before", hint=_HINT)


def _add(connection: sqlite3.Connection, key_epoch: str, charge: int) -> None:
    connection.execute(
        "INSERT INTO budget VALUES (?, ?)"
        " ON CONFLICT (key_epoch) DO UPDATE SET total = total + excluded.total",
        (key_epoch, charge),
    )
