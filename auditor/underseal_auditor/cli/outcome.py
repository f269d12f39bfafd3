"""How commands end: ``error:`` and ``hint:`` on stderr, and an exit code by class of error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Final

from underseal_core.errors import (
    Busy,
    Conflict,
    Damaged,
    InvalidInput,
    MalformedCiphertext,
    Mismatch,
    NotFound,
    PermissionRefused,
    StorageFull,
    UndersealError,
)

UNEXPECTED: Final = 1
INTERRUPTED: Final = 130

EXIT_CODES: Final[Mapping[type[UndersealError], int]] = {
    InvalidInput: 3,
    MalformedCiphertext: 3,
    Conflict: 3,
    NotFound: 4,
    Mismatch: 4,
    PermissionRefused: 5,
    Busy: 6,
    Damaged: 7,
    StorageFull: 7,
}
"""0 means done, 2 wrong usage (typer's own), 1 an error that nobody expected."""


def exit_code(error: UndersealError) -> int:
    """Return the code of the nearest class in the table."""
    found = (EXIT_CODES[cls] for cls in type(error).__mro__ if cls in EXIT_CODES)
    return next(found, UNEXPECTED)


def run(app: Callable[[], object]) -> None:
    """Run a typer application and end the process; errors show no traceback."""
    try:
        app()
    except UndersealError as error:
        complain(error.public, error.hint)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def complain(public: str, hint: str) -> None:
    """Write an error for people."""
    sys.stderr.write(f"error: {public}\n")
    if hint:
        sys.stderr.write(f"hint: {hint}\n")


def show(facts: Mapping[str, object], lines: str, *, as_json: bool) -> None:
    """Print facts as one JSON object, or ``lines`` for people."""
    sys.stdout.write((json.dumps(facts, indent=2) if as_json else lines) + "\n")
    sys.stdout.flush()
