"""Steps from one schema to the next, for every kind of database."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles


class _EmptyBytes(sa.ColumnElement[bytes]):
    """An empty value of the type of ``sa.LargeBinary``, as a default of a column."""

    inherit_cache = True


EMPTY_BYTES: Final = _EmptyBytes()


@compiles(_EmptyBytes, "sqlite")
def _in_sqlite(_element: _EmptyBytes, _compiler: object, **_options: Any) -> str:
    return "x''"


@compiles(_EmptyBytes, "postgresql")
def _in_postgresql(_element: _EmptyBytes, _compiler: object, **_options: Any) -> str:
    return "''::bytea"
