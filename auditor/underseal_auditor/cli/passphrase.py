"""Where the passphrase of sealed files comes from: file, environment, or a prompt."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import typer

from underseal_core.errors import InvalidInput

VARIABLE: Final = "UNDERSEAL_PASSPHRASE"
FILE_VARIABLE: Final = "UNDERSEAL_PASSPHRASE_FILE"
HINT: Final = f"use --passphrase-file, {FILE_VARIABLE}, {VARIABLE}, or a terminal"


def read_passphrase(file: Path | None, *, confirm: bool = False) -> bytes:
    """Return the passphrase, without the line break at the end of a file.

    Parameters
    ----------
    file
        What ``--passphrase-file`` gave.
    confirm
        Ask twice at a prompt: for a new passphrase.

    Raises
    ------
    InvalidInput
        The file cannot be read, the passphrase is empty, or there is nowhere to ask.
    """
    named = file or (Path(os.environ[FILE_VARIABLE]) if FILE_VARIABLE in os.environ else None)
    if named is not None:
        passphrase = _from_file(named)
    elif VARIABLE in os.environ:
        passphrase = os.environ[VARIABLE].encode()
    elif sys.stdin.isatty():
        passphrase = typer.prompt(
            "Passphrase", hide_input=True, confirmation_prompt=confirm, err=True
        ).encode()
    else:
        raise InvalidInput("no passphrase was given", hint=HINT)
    if not passphrase:
        raise InvalidInput("the passphrase is empty", hint=HINT)
    return passphrase


def _from_file(path: Path) -> bytes:
    try:
        return path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise InvalidInput(f"cannot read the passphrase file {path}") from error
