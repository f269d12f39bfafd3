"""The ``underseal-server`` command. Importing it loads nothing that an extra brings."""

from __future__ import annotations

from underseal_core.command import command_of


def main() -> None:
    """Run the command; the process ends with the exit code of the error's class."""
    with command_of("server"):
        from underseal_core.outcome import run
        from underseal_server.cli.app import app

        run(app)
