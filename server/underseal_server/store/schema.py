"""Tables of the catalogue. ``migrations`` makes them; a test compares the two.

Ids and hashes are raw bytes. A unit is PENDING while its ``added_version`` is 0: stored, but in no
version of its gallery. ``removed_version`` is 0 while a row is live. Rows of removed templates
stay, without their label: a template id or unit token never names two things.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from underseal_server.store.migrations import EMPTY_BYTES

NAMES: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
_NO_TEXT: Final = sa.text("''")
_ZERO: Final = sa.text("0")
metadata: Final = sa.MetaData(naming_convention=NAMES)

catalogue: Final = sa.Table(
    "catalogue",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("identity", sa.String(32), nullable=False),
    sa.Column("openings", sa.BigInteger, nullable=False),
)
"""One row: see ``database`` and, for ``openings``, ``postgresql``."""

galleries: Final = sa.Table(
    "galleries",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(63), nullable=False, unique=True),
    sa.Column("model_id", sa.String(200), nullable=False),
    sa.Column("model_dimension", sa.Integer, nullable=False),
    sa.Column("profile", sa.String(63), nullable=False),
    sa.Column("key_epoch", sa.String(64), nullable=False),
    sa.Column("owner", sa.String(63), nullable=False),
    sa.Column("max_per_subject", sa.Integer, nullable=False),
    sa.Column("max_keep_days", sa.Integer, nullable=False, server_default=_ZERO),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.String(20), nullable=False),
    sqlite_autoincrement=True,  # an id, and its folders, never name two galleries
)

writers: Final = sa.Table(
    "writers",
    metadata,
    sa.Column("gallery_id", sa.ForeignKey("galleries.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("client", sa.String(63), primary_key=True),
)

units: Final = sa.Table(
    "units",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("gallery_id", sa.ForeignKey("galleries.id", ondelete="CASCADE"), nullable=False),
    sa.Column("token", sa.LargeBinary(16), nullable=False),
    sa.Column("shape", sa.String(10), nullable=False),
    sa.Column("block", sa.Integer, nullable=False),
    sa.Column("first_slot", sa.Integer, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("templates", sa.Integer, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("content_sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("receipt", sa.LargeBinary, nullable=False),
    sa.Column("receipt_key", sa.LargeBinary(32), nullable=False),
    sa.Column("receipt_signature", sa.LargeBinary(64), nullable=False),
    sa.Column("relabelled_version", sa.BigInteger, nullable=False, server_default=_ZERO),
    sa.Column("enrolled_by", sa.String(63), nullable=False),
    sa.Column("enrolled_at", sa.String(20), nullable=False),
    sa.Column("keep_until", sa.String(20), nullable=False, server_default=_NO_TEXT, index=True),
    sa.Column("added_version", sa.BigInteger, nullable=False),
    sa.Column("removed_version", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("gallery_id", "token"),
    sa.Index(None, "gallery_id", "block"),
    sa.Index(None, "gallery_id", "added_version"),
    sa.Index(None, "gallery_id", "relabelled_version"),
    sqlite_autoincrement=True,  # a number never names two units
)

rotations: Final = sa.Table(
    "rotations",
    metadata,
    sa.Column("gallery_id", sa.ForeignKey("galleries.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("old_epoch", sa.String(64), primary_key=True),
    sa.Column("new_epoch", sa.String(64), nullable=False),
    sa.Column("switching_key", sa.String(64), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("moved_at", sa.String(20), nullable=False),
)
"""Key epochs that galleries left, each with the first version under the next one."""

reencrypted: Final = sa.Table(
    "reencrypted",
    metadata,
    sa.Column("unit_id", sa.ForeignKey("units.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("switching_key", sa.String(64), nullable=False),
    sa.Column("sha256", sa.LargeBinary(32), nullable=False),
)
"""Units of galleries that are on their way to a new key epoch: what their files there hash to."""

amendments: Final = sa.Table(
    "amendments",
    metadata,
    sa.Column("unit_id", sa.ForeignKey("units.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", sa.LargeBinary(16), nullable=False, index=True),
    sa.Column("former_name", sa.LargeBinary(16), nullable=False, index=True),
    sa.Column("entry", sa.LargeBinary, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)
"""The last amendment of every unit that has one, and the first version with it. The names are those
of its ciphertexts now, and of those before, which a checkpoint may still hold."""

templates: Final = sa.Table(
    "templates",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("gallery_id", sa.ForeignKey("galleries.id", ondelete="CASCADE"), nullable=False),
    sa.Column("unit_id", sa.ForeignKey("units.id", ondelete="CASCADE"), nullable=False),
    sa.Column("template_id", sa.LargeBinary(16), nullable=False),
    sa.Column("subject_id", sa.LargeBinary(16), nullable=False),
    sa.Column("block", sa.Integer, nullable=False),
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("sealed_label", sa.LargeBinary, nullable=False),
    sa.Column("label_sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("relabelled_version", sa.BigInteger, nullable=False, server_default=_ZERO),
    sa.Column("removed_version", sa.BigInteger, nullable=False),
    sa.Column("removed_at", sa.String(20), nullable=False, server_default=_NO_TEXT),
    sa.UniqueConstraint("gallery_id", "template_id"),
    sa.Index(None, "gallery_id", "subject_id"),
    sa.Index(None, "unit_id"),
    sqlite_autoincrement=True,
)
sa.Index(
    "uq_templates_live_slot",
    templates.c.gallery_id,
    templates.c.block,
    templates.c.slot,
    unique=True,
    sqlite_where=templates.c.removed_version == 0,
    postgresql_where=templates.c.removed_version == 0,
)

snapshots: Final = sa.Table(
    "snapshots",
    metadata,
    sa.Column("gallery_id", sa.ForeignKey("galleries.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("root", sa.String(64), nullable=False),
    sa.Column("templates", sa.Integer, nullable=False),
    sa.Column("named_at", sa.String(20), nullable=False),
)
"""Versions whose snapshot root was named to anybody."""

archives: Final = sa.Table(
    "archives",
    metadata,
    sa.Column("gallery_id", sa.Integer, primary_key=True),
    sa.Column("archive_id", sa.String(32), primary_key=True),
    sa.Column("gallery", sa.String(63), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("root", sa.String(64), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("exported_at", sa.String(20), nullable=False),
)
"""Archives that hold a gallery. Not bound to its row: they outlive it."""

blocks: Final = sa.Table(
    "blocks",
    metadata,
    sa.Column("gallery_id", sa.ForeignKey("galleries.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("block", sa.Integer, primary_key=True),
    sa.Column("changed_version", sa.BigInteger, nullable=False),
    sa.Column("digested_version", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("templates", sa.Integer, nullable=False, server_default="0"),
    sa.Column("entries_sha256", sa.LargeBinary(32), nullable=False, server_default=EMPTY_BYTES),
)
"""The version that last changed a block's live templates, and their number and digest at
``digested_version``."""

requests: Final = sa.Table(
    "requests",
    metadata,
    sa.Column("request_id", sa.String(32), primary_key=True),
    sa.Column("client", sa.String(63), nullable=False),
    sa.Column("expires_at", sa.String(20), nullable=False, index=True),
)
