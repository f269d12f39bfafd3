"""The ``underseal-auditor`` command. Importing it loads nothing that an extra brings."""

from __future__ import annotations

from underseal_core.command import command_of


def main() -> None:
    """Run the command; the process ends with the exit code of the error's class."""
    with command_of("auditor"):
        from underseal_auditor.cli.app import app
        from underseal_core.outcome import run

        run(app)
