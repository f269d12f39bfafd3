"""What is live in every block, so that a new version costs what changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from underseal_server.store.migrations import EMPTY_BYTES

revision = "0005"
down_revision = "0004"

_FILL = """
INSERT INTO blocks (gallery_id, block, changed_version)
SELECT DISTINCT templates.gallery_id, templates.block, galleries.version
FROM templates JOIN galleries ON galleries.id = templates.gallery_id
"""


def upgrade() -> None:
    """Create the table; the digests are computed when they are first wanted."""
    op.create_table(
        "blocks",
        sa.Column("gallery_id", sa.Integer, nullable=False),
        sa.Column("block", sa.Integer, nullable=False),
        sa.Column("changed_version", sa.BigInteger, nullable=False),
        sa.Column("digested_version", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("templates", sa.Integer, nullable=False, server_default="0"),
        sa.Column("entries_sha256", sa.LargeBinary(32), nullable=False, server_default=EMPTY_BYTES),
        sa.PrimaryKeyConstraint("gallery_id", "block", name="pk_blocks"),
        sa.ForeignKeyConstraint(
            ["gallery_id"], ["galleries.id"], name="fk_blocks_gallery_id", ondelete="CASCADE"
        ),
    )
    op.execute(_FILL)
