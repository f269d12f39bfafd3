"""The newest policy that a registrar or guardian ever had in force: an older one stays out."""

from __future__ import annotations

from underseal_auditor.store.database import Database
from underseal_core.errors import Conflict, Mismatch


class PolicyMemory:
    """Remembers serial and hash in the process's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def advance(self, serial: int, sha256: str) -> None:
        """Take note of a policy that comes into force.

        Raises
        ------
        Mismatch
            One with a higher serial was in force.
        Conflict
            Another one with this serial was.
        """
        with self._database.transaction() as connection:
            row = connection.execute("SELECT serial, sha256 FROM policy_in_force").fetchone()
            if row is not None and serial < row[0]:
                raise Mismatch(
                    f"the policy has serial {serial}, but serial {row[0]} was in force",
                    hint="an older policy needs a higher serial, and new signatures, to come back",
                )
            if row is not None and serial == row[0] and sha256 != row[1]:
                raise Conflict(
                    f"another policy with serial {serial} was in force",
                    hint="give the policy a higher serial and have it signed anew",
                )
            connection.execute(
                "INSERT INTO policy_in_force VALUES (1, ?, ?) ON CONFLICT (id)"
                " DO UPDATE SET serial = excluded.serial, sha256 = excluded.sha256",
                (serial, sha256),
            )
