"""The database of a registrar or guardian that was stopped, for commands that look into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from underseal_auditor.api import guardian_process, serving
from underseal_auditor.store.database import Database
from underseal_core.errors import NotFound

DATABASES: Final = (serving.DATABASE_NAME, guardian_process.DATABASE_NAME)


@contextmanager
def own_database(data: Path, names: tuple[str, ...] = DATABASES) -> Iterator[Database]:
    """Open the database in an auditor's own folder, the first that is there of ``names``.

    Raises
    ------
    NotFound
        There is none.
    """
    found = [path for name in names if (path := data / name).exists()]
    if not found:
        raise NotFound(f"no registrar or guardian keeps its data in {data}")
    database = Database(found[0])
    try:
        yield database
    finally:
        database.close()
