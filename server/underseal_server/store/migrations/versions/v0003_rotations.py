"""Changes of the key epoch: which ones galleries went through, and what is on its way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "rotations",
        sa.Column("gallery_id", sa.Integer, nullable=False),
        sa.Column("old_epoch", sa.String(64), nullable=False),
        sa.Column("new_epoch", sa.String(64), nullable=False),
        sa.Column("switching_key", sa.String(64), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("moved_at", sa.String(20), nullable=False),
        sa.PrimaryKeyConstraint("gallery_id", "old_epoch", name="pk_rotations"),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name="fk_rotations_gallery_id", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "reencrypted",
        sa.Column("unit_id", sa.Integer, nullable=False),
        sa.Column("switching_key", sa.String(64), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("unit_id", name="pk_reencrypted"),
        sa.ForeignKeyConstraint(
            ["unit_id"], ["units.id"], name="fk_reencrypted_unit_id", ondelete="CASCADE"
        ),
    )
