"""``underseal-auditor mirror``: an auditor's copies of catalogues. Stop the auditor first."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from underseal_auditor.cli.own_data import own_database
from underseal_auditor.mirror import Mirror
from underseal_core.outcome import show

app = typer.Typer(help="Mirrored catalogues.", no_args_is_help=True)

DataOption = Annotated[Path, typer.Option(help="The registrar's or guardian's own folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(name="list")
def list_(data: DataOption, *, as_json: JsonOption = False) -> None:
    """List what is mirrored."""
    with own_database(data) as database:
        found = Mirror(database).galleries()
    lines = [
        f"{g.server}  {g.gallery}  version {g.version}, {g.templates} templates" for g in found
    ]
    show({"galleries": [asdict(g) for g in found]}, "\n".join(lines), as_json=as_json)


@app.command()
def forget(server: str, gallery: str, data: DataOption, *, as_json: JsonOption = False) -> None:
    """Drop one catalogue, after its gallery was deleted or made again under its name."""
    with own_database(data) as database:
        Mirror(database).forget(server, gallery)
    facts = {"server": server, "gallery": gallery}
    show(facts, f"forgot {gallery} of {server}", as_json=as_json)
