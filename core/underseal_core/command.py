"""What surrounds a command: a missing extra is named.

Loads nothing but the standard library, so that it works whatever is installed.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILED: Final = 1


@contextmanager
def command_of(extra: str) -> Iterator[None]:
    """Wrap loading and running a role's command.

    A module that is not installed ends the process with ``error:`` and
    ``hint:``: every extra installs all three commands, and the modules of one.

    Parameters
    ----------
    extra
        The role's, as in ``underseal[server]``.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or "a module"
        if missing.startswith("underseal_"):  # nothing that an extra could bring
            raise
        sys.stderr.write(f"error: {missing} is missing, which this command needs\n")
        sys.stderr.write(f"hint: pip install 'underseal[{extra}]'\n")
        sys.exit(FAILED)
