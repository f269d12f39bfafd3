"""What this client enrolled and what it is about to: enrolment survives a crash at any point.

It also remembers what it was shown of the auditors' log, so that they cannot show another one.

A unit is *staged* before its first byte is sent: its messages go to a file, its token and photos
into the database. It is *finished* when the server's receipt is there. A staged unit is sent
again as it is, with the same token and the same bytes, so the server stores it once however often
it comes. The files hold ciphertexts and sealed labels only.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from underseal_core.durable import sync_folder
from underseal_core.errors import Busy, Damaged, InvalidInput, StorageFull

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from underseal_client.records import Gallery

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS units (
    token BLOB PRIMARY KEY, gallery TEXT NOT NULL, finished INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS templates (
    template_id BLOB PRIMARY KEY, gallery TEXT NOT NULL, source TEXT NOT NULL,
    keep_until TEXT NOT NULL, token BLOB NOT NULL REFERENCES units (token)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS templates_by_source ON templates (gallery, source);
CREATE TABLE IF NOT EXISTS requests (
    request_id TEXT PRIMARY KEY, request_sha256 TEXT NOT NULL, result_sha256 TEXT NOT NULL,
    key_epoch TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS logs (
    vkey TEXT PRIMARY KEY, checkpoint BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log_conflicts (
    vkey TEXT NOT NULL, seen BLOB NOT NULL, shown BLOB NOT NULL, PRIMARY KEY (vkey, seen, shown)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 3;
"""
_LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Staged:
    """One template of a unit. ``source`` names what it was made from, "" when nothing does.

    ``keep_until``: when the server removes it by itself; "" for never.
    """

    template_id: bytes
    source: str
    keep_until: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """Hashes of a request and its result, to check a release that is fetched later."""

    request_id: str
    request_sha256: str
    result_sha256: str
    key_epoch: str


def gallery_key(gallery: Gallery) -> str:
    """Return what tells this gallery from one of the same name that was made later.

    It stays the same when the gallery moves to new keys: what was enrolled is still there.
    """
    return f"{gallery.name}@{gallery.created_at}"


class ClientState:
    """The state file and, beside it, the folder of staged units. Thread-safe.

    Parameters
    ----------
    path
        SQLite file, made when it is missing.

    Raises
    ------
    InvalidInput
        The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outbox = path.with_name(f"{path.name}.units")
        try:
            self._outbox.mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(self._open()) as database:
                database.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise InvalidInput(f"cannot open the state file {path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        return database

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._open()) as database:
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise StorageFull("cannot write the client's state file") from error
        except sqlite3.DatabaseError as error:
            raise Damaged("the client's state file is damaged") from error

    @contextmanager
    def enrolling(self) -> Iterator[None]:
        """Hold the right to enrol; one process at a time. Sweeps up what a crash left behind.

        Raises
        ------
        Busy
            Another process enrols with this state file.
        """
        with (self._outbox / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy("another enrolment runs with this state file") from None
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Delete files of units that were not, or are no longer, staged."""
        with self._transaction() as database:
            query = "SELECT token FROM units WHERE NOT finished"
            kept = {f"{bytes(row[0]).hex()}.unit" for row in database.execute(query)}
        for file in self._outbox.iterdir():
            if file.suffix in {".unit", ".draft"} and file.name not in kept:
                file.unlink(missing_ok=True)

    def sources(self, gallery: str, moment: str) -> set[str]:
        """Return the sources whose templates are stored or staged, and not over at ``moment``."""
        query = (
            "SELECT source FROM templates WHERE gallery = ? AND (keep_until = '' OR keep_until > ?)"
        )
        with self._transaction() as database:
            return {str(row[0]) for row in database.execute(query, (gallery, moment))}

    def stage(
        self, gallery: str, token: bytes, parts: Iterable[bytes], templates: Sequence[Staged]
    ) -> None:
        """Keep a unit, durably, before it is sent.

        Raises
        ------
        StorageFull
            No room for it here; nothing is kept.
        """
        self._write(token, parts)
        unit = "INSERT INTO units VALUES (?, ?, 0)"
        template = "INSERT INTO templates VALUES (?, ?, ?, ?, ?)"
        rows = [
            (t.template_id, gallery, t.source, t.keep_until, token) for t in templates if t.source
        ]
        with self._transaction() as database:
            database.execute(unit, (token, gallery))
            database.executemany(template, rows)

    def staged(self, gallery: str) -> list[bytes]:
        """Return the tokens of units without a receipt."""
        query = "SELECT token FROM units WHERE gallery = ? AND NOT finished"
        with self._transaction() as database:
            return [bytes(row[0]) for row in database.execute(query, (gallery,))]

    def parts(self, token: bytes) -> Iterator[bytes]:
        """Yield a staged unit's messages, always the same bytes.

        Raises
        ------
        Damaged
            The file is cut off.
        """
        with self._unit(token).open("rb") as file:
            while header := file.read(_LENGTH.size):
                (length,) = _LENGTH.unpack(header)
                part = file.read(length)
                if len(part) != length:
                    raise Damaged("a staged unit is cut off")
                yield part

    def finish(self, token: bytes) -> None:
        """Note that the server stored the unit; drop the file."""
        with self._transaction() as database:
            database.execute("UPDATE units SET finished = 1 WHERE token = ?", (token,))
        self._unit(token).unlink(missing_ok=True)

    def discard(self, token: bytes) -> None:
        """Forget a unit that the server will never take."""
        with self._transaction() as database:
            database.execute("DELETE FROM templates WHERE token = ?", (token,))
            database.execute("DELETE FROM units WHERE token = ?", (token,))
        self._unit(token).unlink(missing_ok=True)

    def forget(self, template_ids: Iterable[bytes]) -> None:
        """Let the sources of removed templates be enrolled again."""
        with self._transaction() as database:
            query = "DELETE FROM templates WHERE template_id = ?"
            database.executemany(query, [(entry,) for entry in template_ids])

    def forget_gallery(self, gallery: str) -> None:
        """Forget all that was enrolled into a gallery that is gone."""
        query = "SELECT token FROM units WHERE gallery = ?"
        with self._transaction() as database:
            tokens = [bytes(row[0]) for row in database.execute(query, (gallery,))]
            database.execute("DELETE FROM templates WHERE gallery = ?", (gallery,))
            database.execute("DELETE FROM units WHERE gallery = ?", (gallery,))
        for token in tokens:
            self._unit(token).unlink(missing_ok=True)

    def asked(self, entry: Asked) -> None:
        """Remember a request that was submitted."""
        row = (entry.request_id, entry.request_sha256, entry.result_sha256, entry.key_epoch)
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?)", row)

    def asked_before(self, request_id: str) -> Asked | None:
        """Return the hashes of an earlier request, None when it was not made from here."""
        query = "SELECT * FROM requests WHERE request_id = ?"
        with self._transaction() as database:
            row = database.execute(query, (request_id,)).fetchone()
        return None if row is None else Asked(*(str(value) for value in row))

    def log_seen(self, vkey: str) -> bytes:
        """Return the newest checkpoint that was seen of a log, nothing before the first."""
        query = "SELECT checkpoint FROM logs WHERE vkey = ?"
        with self._transaction() as database:
            row = database.execute(query, (vkey,)).fetchone()
        return b"" if row is None else bytes(row[0])

    def see_log(self, vkey: str, expected: bytes, checkpoint: bytes) -> bool:
        """Remember a checkpoint if ``expected`` is still what is remembered; tell whether it was.

        Whoever compares with what is remembered must not be overtaken: two searches at once
        could otherwise be shown two histories.
        """
        replace = "INSERT OR REPLACE INTO logs VALUES (?, ?)"
        with self._transaction() as database:
            query = "SELECT checkpoint FROM logs WHERE vkey = ?"
            row = database.execute(query, (vkey,)).fetchone()
            unchanged = (b"" if row is None else bytes(row[0])) == expected
            if unchanged and checkpoint != expected:
                database.execute(replace, (vkey, checkpoint))
            return unchanged

    def keep_conflict(self, vkey: str, seen: bytes, shown: bytes) -> None:
        """Keep two checkpoints that no honest log signs both."""
        query = "INSERT OR IGNORE INTO log_conflicts VALUES (?, ?, ?)"
        with self._transaction() as database:
            database.execute(query, (vkey, seen, shown))

    def conflicts(self, vkey: str) -> list[tuple[bytes, bytes]]:
        """Return the pairs of checkpoints that contradict each other."""
        query = "SELECT seen, shown FROM log_conflicts WHERE vkey = ?"
        with self._transaction() as database:
            return [(bytes(a), bytes(b)) for a, b in database.execute(query, (vkey,))]

    def _unit(self, token: bytes) -> Path:
        return self._outbox / f"{token.hex()}.unit"

    def _write(self, token: bytes, parts: Iterable[bytes]) -> None:
        draft = self._unit(token).with_suffix(".draft")
        try:
            with draft.open("wb") as file:
                for part in parts:
                    file.write(_LENGTH.pack(len(part)) + part)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._unit(token))
            sync_folder(self._outbox)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise StorageFull("cannot keep the encrypted templates until they are sent") from error
