"""Units of which auditors erased templates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "amendments",
        sa.Column("unit_id", sa.Integer, nullable=False),
        sa.Column("name", sa.LargeBinary(16), nullable=False),
        sa.Column("former_name", sa.LargeBinary(16), nullable=False),
        sa.Column("entry", sa.LargeBinary, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("unit_id", name="pk_amendments"),
        sa.ForeignKeyConstraint(
            ["unit_id"], ["units.id"], name="fk_amendments_unit_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_amendments_name", "amendments", ["name"])
    op.create_index("ix_amendments_former_name", "amendments", ["former_name"])
