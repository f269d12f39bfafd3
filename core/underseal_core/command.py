"""What surrounds a command: gRPC's own lines are silenced, and a missing extra is named.

Loads nothing but the standard library, so that it works whatever is installed.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILED: Final = 1
GRPC_LINES: Final = "GRPC_VERBOSITY"


@contextmanager
def command_of(extra: str) -> Iterator[None]:
    """Wrap loading and running a role's command.

    gRPC writes lines of its own to stderr before our error says the same; who wants them sets
    ``GRPC_VERBOSITY``. A module that is not installed ends the process with ``error:`` and
    ``hint:``: every extra installs all three commands, and the modules of one.

    Parameters
    ----------
    extra
        The role's, as in ``underseal[server]``.
    """
    os.environ.setdefault(GRPC_LINES, "NONE")
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or "a module"
        if missing.startswith("underseal_"):  # nothing that an extra could bring
            raise
        sys.stderr.write(f"error: {missing} is missing, which this command needs\n")
        sys.stderr.write(f"hint: pip install 'underseal[{extra}]'\n")
        sys.exit(FAILED)
