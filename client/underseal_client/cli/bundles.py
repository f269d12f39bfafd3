"""``underseal bundle``."""

from __future__ import annotations

import typer

from underseal_client.cli.output import Json, print_json, say
from underseal_client.cli.session import client_of

bundle_app = typer.Typer(help="The auditors' public bundle.", no_args_is_help=True)


@bundle_app.command("update")
def update(context: typer.Context, as_json: Json = False) -> None:
    """Follow the auditors to their newest keys, once galleries have moved there."""
    with client_of(context) as client:
        epochs = client.update_bundle()
        path = client.settings.bundle
    if as_json:
        print_json({"bundle": str(path), "key_epochs": list(epochs)})
    elif epochs:
        say(f"{path} is now of key epoch {epochs[-1]}; the one before is kept in earlier/")
    else:
        say(f"{path} is the newest that the server knows")
