"""``underseal-server epoch``: switching keys to new key epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from underseal_core.gallery.disk import disk_errors, make_folder
from underseal_core.outcome import show
from underseal_server.engine.keys import KeyEpochs, SwitchingKeys
from underseal_server.store.store import BUNDLES, SWITCHING_KEYS

app = typer.Typer(help="Move galleries to a new key epoch.", no_args_is_help=True)


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="Switching key from the auditors' rotation.")],
    bundle: Annotated[Path, typer.Option(help="Public bundle of the new key epoch.")],
    data: Annotated[Path, typer.Option(help="Data folder.")] = Path("data"),
    successions: Annotated[
        Path | None, typer.Option(help="Of the old key epoch, where shares were dealt anew.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a switching key and copy it into the data folder: galleries of its old epoch move.

    A running server finds it there and re-encrypts them while it serves; another one does when it
    starts. It goes on by itself after an interruption.
    """
    with disk_errors():
        for name in (data, data / BUNDLES, data / SWITCHING_KEYS):
            make_folder(name)
    epochs = KeyEpochs(data / BUNDLES, 1)
    epochs.add(bundle)
    key = SwitchingKeys(data / SWITCHING_KEYS, epochs).add(file, successions)
    facts = {"switching_key": key.id, "old_epoch": key.old_epoch, "new_epoch": key.new_epoch}
    lines = f"galleries of key epoch {key.old_epoch}\nmove to key epoch      {key.new_epoch}"
    show(facts, lines, as_json=as_json)
