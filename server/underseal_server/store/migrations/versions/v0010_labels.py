"""Snapshots no longer name receipts: their hash is not needed beside them."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Drop the column."""
    op.drop_column("units", "receipt_sha256")
