"""Until when units are kept, and for how long a gallery keeps any. Those from before: forever."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the columns."""
    days = sa.Column("max_keep_days", sa.Integer, nullable=False, server_default=sa.text("0"))
    op.add_column("galleries", days)
    until = sa.Column("keep_until", sa.String(20), nullable=False, server_default=sa.text("''"))
    op.add_column("units", until)
    op.create_index("ix_units_keep_until", "units", ["keep_until"])
