"""``underseal release``."""

from __future__ import annotations

from typing import Annotated

import typer

from underseal_client.cli.output import Json, note, print_json
from underseal_client.cli.session import client_of
from underseal_client.cli.showing import log_json, release_json, show_log, show_release

release_app = typer.Typer(help="What the auditors released.", no_args_is_help=True)


@release_app.callback()
def _group() -> None:
    """Keep ``show`` a verb of its own while it is the only one."""


@release_app.command("show")
def show(
    context: typer.Context,
    request_id: Annotated[str, typer.Argument(help="Id of an earlier request.")],
    witnessed: Annotated[
        bool,
        typer.Option(
            "--witnessed/--not-witnessed",
            help="Demand that the settings' witnesses have seen it in the log.",
        ),
    ] = True,
    as_json: Json = False,
) -> None:
    """Fetch the release of an earlier request; verify it and its place in the log."""
    with client_of(context) as client:
        stored = client.release(request_id, witnessed=witnessed)
    if as_json:
        shown = release_json(stored.release, stored.found)
        place = {"log": log_json(stored.logged)}
        print_json({**shown, **place, "request_known": stored.request_known})
        return
    show_release(stored.release, stored.found, stored.logged)
    show_log(stored.logged)
    if not stored.request_known:
        note("the request was not made from here: only signatures and the log were checked")
