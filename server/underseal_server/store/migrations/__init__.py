"""Alembic migrations of the catalogue, run at every start."""
