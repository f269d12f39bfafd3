"""The ``underseal`` command: noun, then verb; results on stdout, everything else on stderr.

Importing it loads nothing that an extra brings.
"""

from __future__ import annotations

from underseal_core.command import command_of


def main() -> None:
    """Run the command; the process ends with the exit code of the error's class."""
    with command_of("client"):
        from underseal_client.cli.app import run

        run()
