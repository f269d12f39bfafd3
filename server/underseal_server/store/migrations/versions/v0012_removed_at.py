"""When a template was removed; empty: it is live, or was removed before this was kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the column."""
    moment = sa.Column("removed_at", sa.String(20), nullable=False, server_default=sa.text("''"))
    op.add_column("templates", moment)
