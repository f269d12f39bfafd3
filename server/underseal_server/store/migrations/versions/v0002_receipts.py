"""Enrollers' receipts of units. Units from before have none, and auditors refuse them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from underseal_server.store.migrations import EMPTY_BYTES

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns."""
    for name, length in (
        ("receipt", None),
        ("receipt_sha256", 32),
        ("receipt_key", 32),
        ("receipt_signature", 64),
    ):
        kind = sa.LargeBinary(length)
        op.add_column("units", sa.Column(name, kind, nullable=False, server_default=EMPTY_BYTES))
