"""Answers and the budget: one answer per request, one opening per ciphertext, ever.

    begin      before anything is opened: the request and every ciphertext are taken for good
    intend     the intent, as the log will have it; announced: its receipt, now it may be opened
    finish     the signed release, its charge and what the log will say of it, in one transaction
    refuse     the rule that refused and its charge, likewise
    logged     the receipt of that entry; an answer is sent only when it has one

What ends before ``finish`` or ``refuse`` leaves a request that may be begun again with the same
submission and the same intent: nothing about it has left the process. A crash before ``logged``
leaves an answer whose entry is appended when the registrar starts again, or when it is asked for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from underseal_auditor.policy.rules import Record
from underseal_auditor.store.database import Database
from underseal_auditor.store.origins import find_origins, keep_origins
from underseal_auditor.store.quotas import add_uses
from underseal_auditor.store.submission import Cost, Submission
from underseal_core.errors import Conflict, Damaged
from underseal_core.log_entries import Logged
from underseal_core.log_evidence import Evidence
from underseal_core.provenance import Origin
from underseal_core.signing import Envelope, Signature
from underseal_core.statements import utc_text

_DAY: Final = timedelta(hours=24)
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_ENTRY_BYTES: Final = _KEY_BYTES + _SIGNATURE_BYTES


@dataclass(frozen=True, slots=True)
class Answer:
    """A stored answer: the ``release``, or None and the ``rule`` that refused.

    ``evidence`` holds the log's entries and receipts; the outcome's receipt is empty until
    :meth:`Ledger.logged`. ``origins``: who enrolled the matches, in the order of their ranks.
    """

    release: Envelope | None
    rule: str
    evidence: Evidence
    origins: tuple[Origin, ...] = ()


class Ledger:
    """Reads and writes answers in the registrar's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def answer(self, submission: Submission) -> Answer | None:
        """Return the stored answer, or None if there is none yet.

        Raises
        ------
        Conflict
            The request id was used for another submission.
        """
        with self._database.transaction() as connection:
            row = _find(connection, submission.client, submission.request_id)
            origins = find_origins(connection, submission.client, submission.request_id)
        if row is None:
            return None
        if (row["request_sha256"], row["result_sha256"]) != (
            submission.request_sha256,
            submission.result_sha256,
        ):
            raise Conflict(
                "this request id was submitted with other content", hint="make a new request"
            )
        return _answer(row, origins)

    def release(self, client: str, request_id: str) -> Answer | None:
        """Return the stored answer to one of ``client``'s requests, if there is one."""
        with self._database.transaction() as connection:
            row = _find(connection, client, request_id)
            origins = find_origins(connection, client, request_id)
        return None if row is None else _answer(row, origins)

    def envelope(self, client: str, request_id: str) -> Envelope | None:
        """Return the release of one of ``client``'s requests, if there is one."""
        answer = self.release(client, request_id)
        return None if answer is None else answer.release

    def knows(self, client: str, request_id: str) -> bool:
        """Tell whether a request was ever begun here."""
        with self._database.transaction() as connection:
            return _find(connection, client, request_id) is not None

    def epoch_total(self, key_epoch: str) -> int:
        """Return how many values were made visible with these keys."""
        with self._database.transaction() as connection:
            return _total(connection, key_epoch)

    def refusals(self, client: str, key_epoch: str) -> int:
        """Return how many of ``client``'s requests were refused after opening: these cost."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT count(*) FROM answers WHERE client = ? AND key_epoch = ?"
                " AND state = 'refused' AND values_charged > 0",
                (client, key_epoch),
            ).fetchone()
        return int(row[0])

    def record(self, submission: Submission, now: datetime) -> Record:
        """Return what the rules must know about a submission's client and keys."""
        client, day = submission.client, utc_text(now - _DAY)
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT total(weight) FROM answers"
                " WHERE client = ? AND request_id != ? AND began_at > ?",
                (client, submission.request_id, day),
            ).fetchone()
            opened = connection.execute(
                "SELECT count(*) FROM answers WHERE key_epoch = ?"
                " AND (client, request_id) != (?, ?)",
                (submission.key_epoch, client, submission.request_id),
            ).fetchone()
            late = connection.execute(
                "SELECT request_id FROM answers WHERE client = ? AND purpose = ?"
                " AND warrant_deadline != '' AND warrant_deadline < ? AND filed_entry = x''",
                (client, submission.purpose, utc_text(now)),
            ).fetchall()
        return Record(
            epoch_total=self.epoch_total(submission.key_epoch),
            refusals=self.refusals(client, submission.key_epoch),
            searches=int(row[0]),
            overdue=tuple(str(found[0]) for found in late),
            openings=int(opened[0]),
        )

    def begin(self, submission: Submission, openings: Sequence[bytes], now: datetime) -> None:
        """Take the request id and every ciphertext, for good.

        Parameters
        ----------
        openings
            SHA-256 of the second component of each ciphertext that will be opened.

        Raises
        ------
        Conflict
            One of the ciphertexts was opened for another request.
        """
        owner = (submission.client, submission.request_id)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO answers (client, request_id, request_sha256, result_sha256,"
                " key_epoch, purpose, state, began_at) VALUES (?, ?, ?, ?, ?, ?, 'opening', ?)"
                " ON CONFLICT DO NOTHING",
                (*owner, submission.request_sha256, submission.result_sha256,
                 submission.key_epoch, submission.purpose, utc_text(now)),
            )  # fmt: skip
            connection.executemany(
                "INSERT INTO openings VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                [(digest, *owner) for digest in openings],
            )
            for digest in openings:
                found = connection.execute(
                    "SELECT client, request_id FROM openings WHERE c1_sha256 = ?", (digest,)
                ).fetchone()
                if found != owner:
                    raise Conflict(
                        "a ciphertext of this result was opened for another request",
                        hint="search again with a fresh probe",
                    )

    def intent(self, submission: Submission) -> Logged:
        """Return the intent of a request that was begun; what is missing of it is empty."""
        with self._database.transaction() as connection:
            row = _find(connection, submission.client, submission.request_id)
        return Logged(b"", b"") if row is None else _evidence(row).intent

    def intend(self, submission: Submission, entry: bytes) -> None:
        """Store the intent that is about to be logged."""
        self._intent(submission, Logged(entry, b""), b"")

    def announced(self, submission: Submission, intent: Logged, head: bytes) -> None:
        """Store the logged intent, and the log's head: the request may be opened now."""
        self._intent(submission, intent, head)

    def _intent(self, submission: Submission, intent: Logged, head: bytes) -> None:
        owner = (submission.client, submission.request_id)
        with self._database.transaction() as connection:
            changed = connection.execute(
                "UPDATE answers SET intent_entry = ?, intent_receipt = ?"
                " WHERE client = ? AND request_id = ? AND state = 'opening'",
                (intent.entry, intent.receipt, *owner),
            ).rowcount
            _expect_one(changed)
            if head:
                _keep_head(connection, head)

    def finish(
        self,
        submission: Submission,
        release: Envelope,
        cost: Cost,
        now: datetime,
        outcome: bytes,
        origins: Sequence[Origin],
    ) -> None:
        """Store the release, its cost, and the outcome's entry, which is yet to be logged.

        ``origins``: who enrolled the matches, in the order of their ranks.
        """
        signatures = b"".join(s.public_key + s.signature for s in release.signatures)
        with self._database.transaction() as connection:
            changed = connection.execute(
                "UPDATE answers SET state = 'released', payload_type = ?, payload = ?,"
                " signatures = ?, values_charged = ?, weight = ?, warrant_deadline = ?,"
                " answered_at = ?, outcome_entry = ?"
                " WHERE client = ? AND request_id = ? AND state = 'opening'",
                (release.payload_type, release.payload, signatures, cost.charge, cost.weight,
                 cost.warrant_deadline, utc_text(now), outcome,
                 submission.client, submission.request_id),
            ).rowcount  # fmt: skip
            _expect_one(changed)
            keep_origins(connection, submission.client, submission.request_id, origins)
            _charge(connection, submission.key_epoch, cost.charge)
            add_uses(connection, submission.key_epoch, cost.gallery, cost.uses)

    def refuse(
        self, submission: Submission, rule: str, cost: Cost, now: datetime, outcome: bytes
    ) -> None:
        """Store that ``rule`` refused, its cost, and the outcome's entry."""
        with self._database.transaction() as connection:
            changed = connection.execute(
                "UPDATE answers SET state = 'refused', rule = ?, values_charged = ?,"
                " weight = ?, answered_at = ?, outcome_entry = ?"
                " WHERE client = ? AND request_id = ? AND state = 'opening'",
                (rule, cost.charge, cost.weight, utc_text(now), outcome,
                 submission.client, submission.request_id),
            ).rowcount  # fmt: skip
            _expect_one(changed)
            _charge(connection, submission.key_epoch, cost.charge)

    def logged(self, client: str, request_id: str, receipt: bytes, head: bytes) -> None:
        """Store the receipt of an answer's outcome, and the log's head: it may be sent now."""
        with self._database.transaction() as connection:
            changed = connection.execute(
                "UPDATE answers SET outcome_receipt = ?"
                " WHERE client = ? AND request_id = ? AND outcome_entry != x''",
                (receipt, client, request_id),
            ).rowcount
            _expect_one(changed)
            _keep_head(connection, head)

    def unlogged(self) -> list[tuple[str, str]]:
        """Return client and request id of the answers whose outcome has no receipt yet."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT client, request_id FROM answers"
                " WHERE state != 'opening' AND outcome_entry != x'' AND outcome_receipt = x''"
                " ORDER BY answered_at"
            ).fetchall()
        return [(str(client), str(request_id)) for client, request_id in rows]

    def log_head(self) -> bytes:
        """Return the newest checkpoint of the log that this registrar knows of, or nothing."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT checkpoint FROM log_head").fetchone()
        return b"" if row is None else bytes(row[0])

    def keep_log_head(self, checkpoint: bytes) -> None:
        """Remember a newer checkpoint."""
        with self._database.transaction() as connection:
            _keep_head(connection, checkpoint)


def _find(connection: sqlite3.Connection, client: str, request_id: str) -> sqlite3.Row | None:
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    row: sqlite3.Row | None = cursor.execute(
        "SELECT * FROM answers WHERE client = ? AND request_id = ?", (client, request_id)
    ).fetchone()
    return row


def _answer(row: sqlite3.Row, origins: tuple[Origin, ...]) -> Answer | None:
    if row["state"] == "opening":
        return None
    evidence = _evidence(row)
    if row["state"] == "refused":
        return Answer(None, row["rule"], evidence)
    data: bytes = row["signatures"]
    parts = [data[i : i + _ENTRY_BYTES] for i in range(0, len(data), _ENTRY_BYTES)]
    signatures = tuple(Signature(p[:_KEY_BYTES], p[_KEY_BYTES:]) for p in parts)
    release = Envelope(row["payload_type"], row["payload"], signatures)
    return Answer(release, "", evidence, origins)


def _evidence(row: sqlite3.Row) -> Evidence:
    return Evidence(
        Logged(row["intent_entry"], row["intent_receipt"]),
        Logged(row["outcome_entry"], row["outcome_receipt"]),
        Logged(row["revocation_entry"], row["revocation_receipt"])
        if row["revocation_receipt"]
        else None,
    )


def _total(connection: sqlite3.Connection, key_epoch: str) -> int:
    row = connection.execute(
        "SELECT total FROM budget WHERE key_epoch = ?", (key_epoch,)
    ).fetchone()
    return 0 if row is None else int(row[0])


def _charge(connection: sqlite3.Connection, key_epoch: str, charge: int) -> None:
    connection.execute(
        "INSERT INTO budget VALUES (?, ?)"
        " ON CONFLICT (key_epoch) DO UPDATE SET total = total + excluded.total",
        (key_epoch, charge),
    )


def _keep_head(connection: sqlite3.Connection, checkpoint: bytes) -> None:
    connection.execute(
        "INSERT INTO log_head VALUES (1, ?)"
        " ON CONFLICT (id) DO UPDATE SET checkpoint = excluded.checkpoint",
        (checkpoint,),
    )


def _expect_one(changed: int) -> None:
    if changed != 1:
        raise Damaged("the request is not being answered")
