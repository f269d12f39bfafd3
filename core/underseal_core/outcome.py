"""How commands end: ``error:`` and ``hint:`` on stderr, and an exit code by class of error."""

from __future__ import annotations

import json
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from underseal_core.errors import (
    Busy,
    Conflict,
    Damaged,
    InvalidInput,
    Mismatch,
    NotFound,
    PermissionRefused,
    StorageFull,
    UndersealError,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

INTERRUPTED: Final = 130


class ExitCode(IntEnum):
    """Exit codes by class of error: what the caller does next."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    INVALID_INPUT = 3
    NOT_FITTING = 4
    REFUSED = 5
    BUSY = 6
    DAMAGED = 7
    PARTIAL = 8


_CODES: Final = {
    InvalidInput: ExitCode.INVALID_INPUT,
    NotFound: ExitCode.NOT_FITTING,
    Conflict: ExitCode.INVALID_INPUT,
    Mismatch: ExitCode.NOT_FITTING,
    PermissionRefused: ExitCode.REFUSED,
    Busy: ExitCode.BUSY,
    Waiting: ExitCode.BUSY,
    StorageFull: ExitCode.DAMAGED,
    Damaged: ExitCode.DAMAGED,
}


def exit_code(error: BaseException) -> ExitCode:
    """Return the exit code of the nearest class in the table."""
    found = (_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)
    return next(found, ExitCode.UNEXPECTED)


def run(app: Callable[[], object]) -> None:
    """Run a command-line application and end the process; expected errors show no traceback."""
    try:
        app()
    except UndersealError as error:
        sys.stderr.write(f"error: {error.public}\n")
        if error.hint:
            sys.stderr.write(f"hint: {error.hint}\n")
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def show(facts: Mapping[str, object], lines: str, *, as_json: bool) -> None:
    """Print facts as one line of JSON, or ``lines`` for people."""
    sys.stdout.write((json.dumps(facts) if as_json else lines) + "\n")
    sys.stdout.flush()
