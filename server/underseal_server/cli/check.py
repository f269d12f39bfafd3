"""``underseal-server check``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from underseal_core.outcome import ExitCode, show
from underseal_server.check import Checker
from underseal_server.checking.findings import Report
from underseal_server.settings import load_settings


def check(
    config: Annotated[Path | None, typer.Option(help="Settings file, TOML.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder of a stopped server.")] = None,
    copies: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Folder with intact copies of units, for --repair."),
    ] = None,
    *,
    deep: Annotated[bool, typer.Option(help="Add up every block anew from its units.")] = False,
    repair: Annotated[bool, typer.Option(help="Repair what can be repaired.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that everything fits together, and that every file and object is accounted for.

    Ends with 7 if something is damaged, with 8 if something is there that should not be.
    """
    settings = load_settings(config, data=data)
    keep = timedelta(seconds=settings.old_units_seconds)
    columns = (SpinnerColumn(), TextColumn("checked {task.completed:.0f} units and blocks"))
    console = Console(stderr=True)
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=None)
        report = Checker(
            settings.data,
            lambda: progress.advance(task),
            deep=deep,
            threads=settings.threads,
            repair=repair,
            keep=keep,
            copies=copies or (),
            catalogue=settings.catalogue_url(),
            objects=settings.object_storage(),
        ).run()
    show(report.facts(), "\n".join(_lines(report)), as_json=as_json)
    if report.problems:
        raise typer.Exit(ExitCode.DAMAGED)
    if report.leftovers:
        raise typer.Exit(ExitCode.PARTIAL)


def _lines(report: Report) -> list[str]:
    lines = [str(finding) for finding in report.findings]
    lines += [
        f"gallery {one.name}: version {one.version}, {one.templates} templates, "
        f"snapshot {one.root or 'unknown'}"
        for one in report.galleries
    ]
    counts = (
        f"{len(report.galleries)} galleries, {report.templates} templates in {report.units} units, "
        f"{report.blocks} blocks, {report.files} files: "
    )
    if report.accounted:
        end = f"all sound; {report.sources.accounted()}"
    else:
        end = f"{len(report.problems)} problems, {len(report.leftovers)} leftovers"
    return [*lines, counts + end]
