"""Since which version a template has its label, and a unit its receipt; 0: since it came."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the columns."""
    for table in ("units", "templates"):
        version = sa.Column(
            "relabelled_version", sa.BigInteger, nullable=False, server_default=sa.text("0")
        )
        op.add_column(table, version)
    op.create_index(
        "ix_units_gallery_id_relabelled_version", "units", ["gallery_id", "relabelled_version"]
    )
