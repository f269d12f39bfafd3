"""A gallery in one file, to be kept or moved to another server; see docs/reference/archive.md."""
