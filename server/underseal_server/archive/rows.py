"""Rows of the catalogue as JSON, for every kind of record that holds some.

A row is an object of column names and values; bytes are hexadecimal. A column that a row lacks
takes its default, so columns may be added without a new version. A kind gets a new version when
what it says changes its meaning; a reader refuses later versions and columns that it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from underseal_core.errors import Damaged, InvalidInput
from underseal_server.store import schema
from underseal_server.store.transfer import Row, columns_of

_UPGRADE: Final = "it was made by a newer program: upgrade this one"
_LARGEST: Final = 2**31 - 1
_LARGEST_BIG: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class RowKind:
    """Records of this kind hold rows of one table."""

    name: str
    table: sa.Table
    version: int = 1


KINDS: Final = {
    kind.name: kind
    for kind in (
        RowKind("gallery", schema.galleries),
        RowKind("writers", schema.writers),
        RowKind("rotations", schema.rotations),
        RowKind("snapshots", schema.snapshots),
        RowKind("archives", schema.archives),
        RowKind("units", schema.units),
        RowKind("templates", schema.templates),
        RowKind("amendments", schema.amendments),
    )
}
LEFT_OUT: Final = {
    "catalogue": "which catalogue it is",
    "blocks": "digests of what the templates say, made again",
    "requests": "ids of signed requests are this server's, and expire",
    "reencrypted": "a move to new keys that was under way begins again",
}
"""Tables of which nothing goes into an archive, and why. A test sees to it that none is missed."""


def pack_rows(rows: Sequence[Row]) -> bytes:
    """Return a record's body."""
    plain = [
        {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
        for row in rows
    ]
    return json.dumps(plain, separators=(",", ":")).encode()


def unpack_rows(kind: RowKind, head: Mapping[str, object], body: bytes) -> list[Row]:
    """Return the rows of a record, with nothing in them but what their columns may hold.

    Raises
    ------
    InvalidInput
        Of a later version, or with a column that is not known.
    Damaged
        Not such rows.
    """
    check_version(head, kind.version)
    try:
        rows = json.loads(body)
    except ValueError as error:
        raise _not_rows(kind) from error
    if not isinstance(rows, list) or not rows:
        raise _not_rows(kind)
    columns = {column.name: column for column in columns_of(kind.table)}
    if "unit_id" in kind.table.columns:
        columns["unit"] = schema.units.c.token
    return [_row(kind, columns, row) for row in rows]


def check_version(head: Mapping[str, object], known: int) -> None:
    """Refuse a record that a later program wrote.

    Raises
    ------
    InvalidInput
        It is of a later version.
    """
    version = head.get("version")
    if not isinstance(version, int) or not 1 <= version <= known:
        raise InvalidInput(
            f"the archive's records of kind {head.get('kind')} are of version {version}, "
            f"and this program reads up to {known}",
            hint=_UPGRADE,
        )


def _row(kind: RowKind, columns: Mapping[str, sa.Column[Any]], row: object) -> Row:
    if not isinstance(row, dict):
        raise _not_rows(kind)
    for name in row.keys() - columns.keys():
        raise InvalidInput(f"the archive's {kind.name} have {name!r}", hint=_UPGRADE)
    for name in columns.keys() - row.keys():
        if not columns[name].nullable and columns[name].server_default is None:
            raise Damaged(f"the archive's {kind.name} lack {name!r}")
    return {name: _value(kind, columns[name], value) for name, value in row.items()}


def _value(kind: RowKind, column: sa.Column[Any], value: object) -> object:
    """Return what a column holds, of its type and no larger than any database takes."""
    if value is None and column.nullable:
        return None
    length = getattr(column.type, "length", None)
    match column.type, value:
        case sa.LargeBinary(), str():
            try:
                data = bytes.fromhex(value)
            except ValueError as error:
                raise _not_rows(kind) from error
            if length is None or len(data) <= length:
                return data
        case sa.String(), str() if (length is None or len(value) <= length) and "\0" not in value:
            return value
        case sa.Boolean(), bool():
            return value
        case sa.Integer(), int() if not isinstance(value, bool) and 0 <= value <= _largest(column):
            return value
    raise _not_rows(kind)


def _largest(column: sa.Column[Any]) -> int:
    return _LARGEST_BIG if isinstance(column.type, sa.BigInteger) else _LARGEST


def _not_rows(kind: RowKind) -> Damaged:
    return Damaged(f"the archive's {kind.name} are unreadable")
