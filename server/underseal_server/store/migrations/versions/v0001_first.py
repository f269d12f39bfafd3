"""Galleries, writers, units, templates, request ids."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    _create_galleries()
    _create_units()
    _create_templates()
    op.create_table(
        "requests",
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("client", sa.String(63), nullable=False),
        sa.Column("expires_at", sa.String(20), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="pk_requests"),
    )
    op.create_index("ix_requests_expires_at", "requests", ["expires_at"])


def _gallery_reference(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["gallery_id"], ["galleries.id"], name=f"fk_{table}_gallery_id", ondelete="CASCADE"
    )


def _create_galleries() -> None:
    op.create_table(
        "galleries",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("model_id", sa.String(200), nullable=False),
        sa.Column("model_dimension", sa.Integer, nullable=False),
        sa.Column("profile", sa.String(63), nullable=False),
        sa.Column("key_epoch", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(63), nullable=False),
        sa.Column("max_per_subject", sa.Integer, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.String(20), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_galleries"),
        sa.UniqueConstraint("name", name="uq_galleries_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "writers",
        sa.Column("gallery_id", sa.Integer, nullable=False),
        sa.Column("client", sa.String(63), nullable=False),
        sa.PrimaryKeyConstraint("gallery_id", "client", name="pk_writers"),
        _gallery_reference("writers"),
    )


def _create_units() -> None:
    op.create_table(
        "units",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("gallery_id", sa.Integer, nullable=False),
        sa.Column("token", sa.LargeBinary(16), nullable=False),
        sa.Column("shape", sa.String(10), nullable=False),
        sa.Column("block", sa.Integer, nullable=False),
        sa.Column("first_slot", sa.Integer, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("templates", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("content_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("enrolled_by", sa.String(63), nullable=False),
        sa.Column("enrolled_at", sa.String(20), nullable=False),
        sa.Column("added_version", sa.BigInteger, nullable=False),
        sa.Column("removed_version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_units"),
        sa.UniqueConstraint("gallery_id", "token", name="uq_units_gallery_id_token"),
        _gallery_reference("units"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_units_gallery_id_block", "units", ["gallery_id", "block"])


def _create_templates() -> None:
    op.create_table(
        "templates",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("gallery_id", sa.Integer, nullable=False),
        sa.Column("unit_id", sa.Integer, nullable=False),
        sa.Column("template_id", sa.LargeBinary(16), nullable=False),
        sa.Column("subject_id", sa.LargeBinary(16), nullable=False),
        sa.Column("block", sa.Integer, nullable=False),
        sa.Column("slot", sa.Integer, nullable=False),
        sa.Column("sealed_label", sa.LargeBinary, nullable=False),
        sa.Column("label_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("added_version", sa.BigInteger, nullable=False),
        sa.Column("removed_version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_templates"),
        sa.UniqueConstraint(
            "gallery_id", "template_id", name="uq_templates_gallery_id_template_id"
        ),
        _gallery_reference("templates"),
        sa.ForeignKeyConstraint(
            ["unit_id"], ["units.id"], name="fk_templates_unit_id", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_templates_gallery_id_subject_id", "templates", ["gallery_id", "subject_id"])
    op.create_index("ix_templates_unit_id", "templates", ["unit_id"])
    op.create_index(
        "uq_templates_live_slot",
        "templates",
        ["gallery_id", "block", "slot"],
        unique=True,
        sqlite_where=sa.text("removed_version = 0"),
        postgresql_where=sa.text("removed_version = 0"),
    )
