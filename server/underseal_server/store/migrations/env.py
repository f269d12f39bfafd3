"""Run by Alembic: migrates over the connection that the server has open."""

from __future__ import annotations

from alembic import context

from underseal_server.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the caller's transaction is around everything
)
context.run_migrations()
