"""``underseal-server check``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from underseal_core.outcome import ExitCode, show
from underseal_server.check import Checker
from underseal_server.settings import load_settings


def check(
    config: Annotated[Path | None, typer.Option(help="Settings file, TOML.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder of a stopped server.")] = None,
    *,
    deep: Annotated[bool, typer.Option(help="Add up every block anew from its units.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that catalogue, units and blocks fit together. Ends with 7 if they do not."""
    settings = load_settings(config, data=data)
    columns = (SpinnerColumn(), TextColumn("checked {task.completed:.0f} files"))
    console = Console(stderr=True)
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=None)
        checker = Checker(
            settings.data,
            lambda: progress.advance(task),
            deep=deep,
            threads=settings.threads,
            catalogue=settings.catalogue_url(),
            objects=settings.object_storage(),
        )
        report = checker.run()
    counts = (
        f"{report.galleries} galleries, {report.templates} templates in {report.units} units, "
        f"{report.blocks} blocks: "
    )
    summary = counts + (f"{len(report.problems)} problems" if report.problems else "all sound")
    show(asdict(report), "\n".join([*report.problems, summary]), as_json=as_json)
    if report.problems:
        raise typer.Exit(ExitCode.DAMAGED)
