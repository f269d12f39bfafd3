"""The catalogue's own row: its identity and, in PostgreSQL, how often a server has opened it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the table; a server fills it when it opens the catalogue."""
    op.create_table(
        "catalogue",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("identity", sa.String(32), nullable=False),
        sa.Column("openings", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_catalogue"),
    )
