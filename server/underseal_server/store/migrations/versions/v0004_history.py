"""Snapshots that were named to others, and archives that were made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "snapshots",
        sa.Column("gallery_id", sa.Integer, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("root", sa.String(64), nullable=False),
        sa.Column("templates", sa.Integer, nullable=False),
        sa.Column("named_at", sa.String(20), nullable=False),
        sa.PrimaryKeyConstraint("gallery_id", "version", name="pk_snapshots"),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name="fk_snapshots_gallery_id", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "archives",
        sa.Column("gallery_id", sa.Integer, nullable=False),
        sa.Column("archive_id", sa.String(32), nullable=False),
        sa.Column("gallery", sa.String(63), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("root", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("exported_at", sa.String(20), nullable=False),
        sa.PrimaryKeyConstraint("gallery_id", "archive_id", name="pk_archives"),
    )
