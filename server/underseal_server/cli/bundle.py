"""``underseal-server bundle``: the key epochs that this server can compute under."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from underseal_core.errors import InvalidInput
from underseal_core.gallery.disk import disk_errors, make_folder
from underseal_core.outcome import show
from underseal_server.engine.keys import EpochInfo, KeyEpochs
from underseal_server.store.store import BUNDLES

app = typer.Typer(help="Public bundles of key epochs.", no_args_is_help=True)

Data = Annotated[Path, typer.Option(help="Data folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="Bundle file from the key ceremony.")],
    data: Data = Path("data"),
    *,
    as_json: Json = False,
) -> None:
    """Check a bundle and copy it into the data folder; a running server finds it there."""
    with disk_errors():
        make_folder(data)
        make_folder(data / BUNDLES)
    info = KeyEpochs(data / BUNDLES, 1).add(file)
    show(_facts(info), _line(info), as_json=as_json)


@app.command("list")
def list_bundles(data: Data = Path("data"), *, as_json: Json = False) -> None:
    """List the bundles in the data folder."""
    if not (data / BUNDLES).is_dir():
        raise InvalidInput(f"{data} is not a server's data folder")
    infos = list(KeyEpochs(data / BUNDLES, 1).infos())
    show(
        {"bundles": [_facts(info) for info in infos]},
        "\n".join(map(_line, infos)) or "no bundles",
        as_json=as_json,
    )


def _facts(info: EpochInfo) -> dict[str, object]:
    return {
        "key_epoch": info.epoch,
        "profile": info.profile.name,
        "dimension": info.dimension,
        "threshold": info.threshold,
        "members": [member.hex() for member in info.members],
    }


def _line(info: EpochInfo) -> str:
    keys = f"{info.threshold} of {len(info.members)}"
    return f"{info.epoch}  {info.profile.name}  d={info.dimension}  {keys}"
