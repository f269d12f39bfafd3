"""Who enrolled the matches of a stored release, kept as long as the release can be asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from underseal_core.provenance import HASH_BYTES, Origin
from underseal_core.signing import Envelope, Signature

_COLUMNS: Final = "receipt_type, receipt, receipt_key, receipt_signature, place, path, label_sha256"


def keep_origins(
    connection: sqlite3.Connection, client: str, request_id: str, origins: Sequence[Origin]
) -> None:
    """Store the origins of a release's matches, in the order of their ranks."""
    connection.executemany(
        f"INSERT INTO origins (client, request_id, rank, {_COLUMNS})"  # noqa: S608
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(client, request_id, rank, *_row(one)) for rank, one in enumerate(origins, start=1)],
    )


def find_origins(
    connection: sqlite3.Connection, client: str, request_id: str
) -> tuple[Origin, ...]:
    """Return what :func:`keep_origins` stored."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM origins WHERE client = ? AND request_id = ? ORDER BY rank",  # noqa: S608
        (client, request_id),
    )
    return tuple(
        Origin(
            Envelope(kind, payload, (Signature(key, signature),)),
            place,
            tuple(path[i : i + HASH_BYTES] for i in range(0, len(path), HASH_BYTES)),
            label,
        )
        for kind, payload, key, signature, place, path, label in rows
    )


def _row(origin: Origin) -> tuple[object, ...]:
    receipt = origin.receipt
    (signature,) = receipt.signatures
    return (
        receipt.payload_type, receipt.payload, signature.public_key, signature.signature,
        origin.place, b"".join(origin.path), origin.label_sha256,
    )  # fmt: skip
