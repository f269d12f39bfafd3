"""How the command speaks: results, progress, errors, exit codes."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from underseal_core.errors import InvalidInput, UndersealError
from underseal_core.outcome import ExitCode, exit_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import JustifyMethod

DEBUG_VARIABLE: Final = "UNDERSEAL_DEBUG"

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

out = Console()
err = Console(stderr=True)


class NoSuchPhoto(InvalidInput):
    """What the user named as a photo or folder is not there.

    Parameters
    ----------
    path
        As it was typed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(f"there is no photo {path}", hint="check the path")


def show_error(error: Exception) -> ExitCode:
    """Print ``error:`` and ``hint:`` lines; the traceback only when the environment asks."""
    if isinstance(error, UndersealError):
        public, hint = error.public, error.hint
    else:
        public = f"unexpected {type(error).__name__}"
        hint = f"set {DEBUG_VARIABLE}=1 for details and report this"
    err.print(f"[bold red]error:[/] {escape(public)}", soft_wrap=True, highlight=False)
    if hint:
        err.print(f"[bold cyan]hint:[/] {escape(hint)}", soft_wrap=True, highlight=False)
    if os.environ.get(DEBUG_VARIABLE):
        err.print_exception()
    return exit_code(error)


def print_json(value: object) -> None:
    """Print a result as indented JSON."""
    sys.stdout.write(json.dumps(value, default=_plain, indent=2, ensure_ascii=False) + "\n")


def print_line(value: object) -> None:
    """Print one of several results as a line of JSON."""
    sys.stdout.write(json.dumps(value, default=_plain, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def print_table(
    headers: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> None:
    """Print rows as a table; cells are shown as they are, without markup.

    Parameters
    ----------
    numbers
        Headers of columns that are aligned to the right.
    whole
        Headers of columns that are never broken, so that they can be copied.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        justify: JustifyMethod = "right" if header in numbers else "left"
        table.add_column(header, overflow="fold", justify=justify, no_wrap=header in whole)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    out.print(table)


def say(text: str) -> None:
    """Print one line of a result."""
    out.print(escape(text), soft_wrap=True, highlight=False)


def counted(number: int, thing: str) -> str:
    """Return "1 photo", "2 photos"."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def note(text: str) -> None:
    """Print one line that is no result."""
    err.print(escape(text), soft_wrap=True, highlight=False)
