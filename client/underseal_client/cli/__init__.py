"""The ``underseal`` command: noun, then verb; results on stdout, everything else on stderr."""

from __future__ import annotations

from underseal_client.cli.app import main

__all__ = ["main"]
