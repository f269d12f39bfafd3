"""``underseal warrant``."""

from __future__ import annotations

from typing import Annotated

import typer

from underseal_client.cli.output import Json, note, print_json, say
from underseal_client.cli.session import client_of


def warrant(
    context: typer.Context,
    request_id: Annotated[str, typer.Argument(help="Id of a search with a deadline.")],
    reference: Annotated[str, typer.Argument(help="Reference of the authorisation; signed.")],
    as_json: Json = False,
) -> None:
    """File the warrant of a provisional release. The log gets its hash only."""
    with client_of(context) as client:
        filed = client.file_warrant(request_id, reference)
    if as_json:
        print_json({**filed.warrant.model_dump(), "filed_at": filed.filed_at, "late": filed.late})
        return
    say(f"warrant for request {request_id} filed {filed.filed_at}, in the log")
    if filed.late:
        note("it came too late: the release was revoked and stays so")
