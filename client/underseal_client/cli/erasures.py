"""``underseal gallery erasures``: what has become of removed templates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from underseal_client.cli.galleries import Name
from underseal_client.cli.output import Json, counted, note, print_json, print_table
from underseal_client.cli.session import client_of, template_ids

if TYPE_CHECKING:
    from underseal_client.erasures import Erasure


def erasures(
    context: typer.Context,
    name: Name,
    template: Annotated[
        list[str] | None, typer.Option("--template", help="Only this template; repeat.")
    ] = None,
    subject: Annotated[str, typer.Option(help="Only templates of this subject.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Write receipts and amendments into this folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what has become of removed templates, and check the receipts of those erased."""
    chosen = template_ids(template or [])
    with client_of(context) as client:
        found = list(client.erasures(name, subject=subject, template_ids=chosen))
        known = client.settings.server_key is not None
    if out is not None:
        for one in found:
            one.write(out)
    if as_json:
        print_json({"erasures": [_json(one) for one in found], "server_key_compared": known})
        return
    columns = ("TEMPLATE", "REMOVED (UTC)", "ERASED", "AT VERSION", "ARCHIVES WITH IT")
    numbers = ("AT VERSION", "ARCHIVES WITH IT")
    print_table(columns, [_row(one) for one in found], numbers=numbers, whole=("TEMPLATE",))
    waiting = sum(one.receipt is None for one in found)
    if waiting:
        note(
            f"{counted(waiting, 'template')} removed, not erased yet: "
            "the auditors erase what shares a unit with others on their next run"
        )
    if not known and waiting < len(found):
        note("the settings name no server_key: the receipts' signer was not compared with it")


def _row(one: Erasure) -> tuple[object, ...]:
    when = one.removed_at[:16].replace("T", " ") or "not known"
    if one.receipt is None:
        return one.template_id.hex(), when, "not yet", "", ""
    how = "by the auditors" if one.receipt.how == "amended" else "unit deleted"
    held = one.receipt.archives_count
    return one.template_id.hex(), when, how, one.receipt.erased_version, held


def _json(one: Erasure) -> dict[str, object]:
    return {
        "template_id": one.template_id,
        "subject_id": one.subject_id,
        "removed_version": one.removed_version,
        "removed_at": one.removed_at,
        "receipt": None if one.receipt is None else one.receipt.model_dump(mode="json"),
        "server_key": one.server_key or None,
    }
