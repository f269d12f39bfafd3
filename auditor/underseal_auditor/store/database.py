"""The registrar's SQLite file: one connection, one lock, schema by numbered steps.

``synchronous = FULL`` in WAL mode: a transaction that returned is on the disk, so nothing is
answered that a crash could make the registrar forget.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from underseal_core.errors import Damaged, InvalidInput, StorageFull

STEPS: Final = (
    """
    CREATE TABLE answers (
        client TEXT NOT NULL,
        request_id TEXT NOT NULL,
        request_sha256 TEXT NOT NULL,
        result_sha256 TEXT NOT NULL,
        key_epoch TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('opening', 'released', 'refused')),
        rule TEXT NOT NULL DEFAULT '',
        payload_type TEXT NOT NULL DEFAULT '',
        payload BLOB NOT NULL DEFAULT x'',
        signatures BLOB NOT NULL DEFAULT x'',
        values_charged INTEGER NOT NULL DEFAULT 0,
        began_at TEXT NOT NULL,
        answered_at TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (client, request_id)
    ) STRICT;
    CREATE TABLE openings (
        c1_sha256 BLOB NOT NULL PRIMARY KEY,
        client TEXT NOT NULL,
        request_id TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE budget (
        key_epoch TEXT NOT NULL PRIMARY KEY,
        total INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE galleries (
        server TEXT NOT NULL,
        gallery TEXT NOT NULL,
        version INTEGER NOT NULL,
        PRIMARY KEY (server, gallery)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE templates (
        server TEXT NOT NULL,
        gallery TEXT NOT NULL,
        template_id BLOB NOT NULL,
        subject_id BLOB NOT NULL,
        block INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        unit_sha256 BLOB NOT NULL,
        label_sha256 BLOB NOT NULL,
        sealed_label BLOB NOT NULL,
        added_version INTEGER NOT NULL,
        removed_version INTEGER NOT NULL,
        PRIMARY KEY (server, gallery, template_id)
    ) STRICT;
    """,
    """
    ALTER TABLE answers ADD COLUMN intent_entry BLOB NOT NULL DEFAULT x'';
    ALTER TABLE answers ADD COLUMN intent_receipt BLOB NOT NULL DEFAULT x'';
    ALTER TABLE answers ADD COLUMN outcome_entry BLOB NOT NULL DEFAULT x'';
    ALTER TABLE answers ADD COLUMN outcome_receipt BLOB NOT NULL DEFAULT x'';
    CREATE TABLE log_head (
        id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
        checkpoint BLOB NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE answers ADD COLUMN weight INTEGER NOT NULL DEFAULT 1;
    CREATE INDEX answers_by_time ON answers (client, began_at);
    """,
    """
    CREATE TABLE subjects (
        key_epoch TEXT NOT NULL,
        gallery TEXT NOT NULL,
        subject_id BLOB NOT NULL,
        scores INTEGER NOT NULL,
        hits INTEGER NOT NULL,
        PRIMARY KEY (key_epoch, gallery, subject_id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE sketches (
        client TEXT NOT NULL,
        request_id TEXT NOT NULL,
        key_epoch TEXT NOT NULL,
        gallery TEXT NOT NULL,
        sketch BLOB NOT NULL,
        PRIMARY KEY (client, request_id)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE pending (
        client TEXT NOT NULL,
        request_id TEXT NOT NULL,
        request_sha256 TEXT NOT NULL,
        result_sha256 TEXT NOT NULL,
        request BLOB NOT NULL,
        result BLOB NOT NULL,
        size INTEGER NOT NULL,
        submitted_at TEXT NOT NULL,
        expires_at TEXT NOT NULL,
        PRIMARY KEY (client, request_id)
    ) STRICT;
    CREATE TABLE pending_sealed (
        client TEXT NOT NULL,
        request_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        block INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (client, request_id, kind, block)
    ) STRICT;
    CREATE TABLE approvals (
        client TEXT NOT NULL,
        request_id TEXT NOT NULL,
        approver TEXT NOT NULL,
        entry BLOB NOT NULL,
        PRIMARY KEY (client, request_id, approver)
    ) STRICT;
    """,
    """
    ALTER TABLE answers ADD COLUMN purpose TEXT NOT NULL DEFAULT '';
    ALTER TABLE answers ADD COLUMN warrant_deadline TEXT NOT NULL DEFAULT '';
    ALTER TABLE answers ADD COLUMN warrant BLOB NOT NULL DEFAULT x'';
    ALTER TABLE answers ADD COLUMN filed_entry BLOB NOT NULL DEFAULT x'';
    ALTER TABLE answers ADD COLUMN filed_receipt BLOB NOT NULL DEFAULT x'';
    ALTER TABLE answers ADD COLUMN revocation_entry BLOB NOT NULL DEFAULT x'';
    ALTER TABLE answers ADD COLUMN revocation_receipt BLOB NOT NULL DEFAULT x'';
    CREATE INDEX answers_by_deadline ON answers (warrant_deadline);
    """,
    """
    CREATE TABLE policy_in_force (
        id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
        serial INTEGER NOT NULL,
        sha256 TEXT NOT NULL
    ) STRICT;
    """,
    """
    DROP TABLE templates;
    DROP TABLE galleries;
    CREATE TABLE galleries (
        server TEXT NOT NULL,
        gallery TEXT NOT NULL,
        pin TEXT NOT NULL,
        version INTEGER NOT NULL,
        PRIMARY KEY (server, gallery)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE units (
        server TEXT NOT NULL,
        gallery TEXT NOT NULL,
        token BLOB NOT NULL,
        shape TEXT NOT NULL,
        block INTEGER NOT NULL,
        first_slot INTEGER NOT NULL,
        step INTEGER NOT NULL,
        templates INTEGER NOT NULL,
        sha256 BLOB NOT NULL,
        receipt_type TEXT NOT NULL,
        receipt BLOB NOT NULL,
        receipt_key BLOB NOT NULL,
        receipt_signature BLOB NOT NULL,
        added_version INTEGER NOT NULL,
        receipt_sha256 BLOB NOT NULL,
        enroller TEXT NOT NULL,
        removed_version INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (server, gallery, token)
    ) STRICT;
    CREATE INDEX units_by_block ON units (server, gallery, block);
    CREATE TABLE templates (
        server TEXT NOT NULL,
        gallery TEXT NOT NULL,
        template_id BLOB NOT NULL,
        subject_id BLOB NOT NULL,
        token BLOB NOT NULL,
        place INTEGER NOT NULL,
        sealed_label BLOB NOT NULL,
        label_sha256 BLOB NOT NULL,
        removed_version INTEGER NOT NULL,
        PRIMARY KEY (server, gallery, template_id),
        UNIQUE (server, gallery, token, place)
    ) STRICT;
    CREATE TABLE origins (
        client TEXT NOT NULL,
        request_id TEXT NOT NULL,
        rank INTEGER NOT NULL,
        receipt_type TEXT NOT NULL,
        receipt BLOB NOT NULL,
        receipt_key BLOB NOT NULL,
        receipt_signature BLOB NOT NULL,
        place INTEGER NOT NULL,
        path BLOB NOT NULL,
        label_sha256 BLOB NOT NULL,
        PRIMARY KEY (client, request_id, rank)
    ) STRICT;
    """,
    """
    CREATE TABLE frozen_servers (
        key BLOB NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        rule TEXT NOT NULL,
        request_sha256 TEXT NOT NULL,
        at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE tested_units (
        key_epoch TEXT NOT NULL,
        digest BLOB NOT NULL,
        PRIMARY KEY (key_epoch, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE zero_tests (
        kind TEXT NOT NULL CHECK (kind IN ('client', 'gallery')),
        name TEXT NOT NULL,
        failed INTEGER NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE units ADD COLUMN keep_until TEXT NOT NULL DEFAULT '';
    CREATE INDEX units_by_time ON units (server, gallery, keep_until);
    """,
    """
    ALTER TABLE units ADD COLUMN amendment BLOB NOT NULL DEFAULT x'';
    ALTER TABLE units ADD COLUMN amended_version INTEGER NOT NULL DEFAULT 0;
    """,
    """
    ALTER TABLE units DROP COLUMN receipt_sha256;
    """,
    """
    CREATE INDEX templates_by_removal ON templates (server, gallery, removed_version)
        WHERE removed_version > 0;
    """,
    """
    ALTER TABLE zero_tests RENAME TO zero_test_counts;
    CREATE TABLE zero_tests (
        id INTEGER NOT NULL PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('client', 'gallery', 'erasure')),
        name TEXT NOT NULL,
        key_epoch TEXT NOT NULL,
        parts BLOB NOT NULL,
        failed INTEGER NOT NULL CHECK (failed IN (0, 1)),
        client TEXT NOT NULL DEFAULT '',
        request_id TEXT NOT NULL DEFAULT '',
        request_sha256 TEXT NOT NULL DEFAULT '',
        result_sha256 TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX zero_tests_by_suspect ON zero_tests (kind, name);
    INSERT INTO zero_tests (kind, name, key_epoch, parts, failed)
        WITH RECURSIVE number(i) AS (
            SELECT 1 UNION ALL
            SELECT i + 1 FROM number WHERE i < (SELECT max(failed) FROM zero_test_counts)
        )
        SELECT kind, name, '', x'', 1 FROM zero_test_counts JOIN number ON i <= failed;
    DROP TABLE zero_test_counts;
    """,
)
"""Step ``i`` takes the schema from version ``i`` to ``i + 1``; never edit one that was shipped."""

_FULL_CODES: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})


class Database:
    """The file, opened and at the newest schema.

    Raises
    ------
    InvalidInput
        The folder cannot be used, or the file is of a newer program.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise InvalidInput(
                "cannot open the registrar's database",
                hint="the data folder must be writable and used by one registrar only",
            ) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run one atomic and durable transaction; other threads wait.

        Raises
        ------
        StorageFull
            No room; nothing was changed.
        Damaged
            SQLite failed in another way; nothing was changed.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                code = getattr(error, "sqlite_errorcode", 0)
                if code in _FULL_CODES:
                    raise StorageFull("the registrar has no room to record its answer") from error
                raise Damaged("the registrar's database failed") from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _prepare(self) -> None:
        connection = self._connection
        # Two registrars on one file would each grant the last of the budget.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # Removed labels must not linger in free pages.
        connection.execute("PRAGMA secure_delete = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(STEPS):
            raise InvalidInput("the registrar's database is of a newer version of this program")
        for number, step in enumerate(STEPS[version:], start=version + 1):
            connection.executescript(
                f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {number}; COMMIT"
            )
