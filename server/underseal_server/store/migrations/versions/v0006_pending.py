"""Units without a version: stored, and not in any snapshot yet. Templates come with their unit."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make units findable by version, and say it only once since when a template is there."""
    op.create_index("ix_units_gallery_id_added_version", "units", ["gallery_id", "added_version"])
    op.drop_column("templates", "added_version")
