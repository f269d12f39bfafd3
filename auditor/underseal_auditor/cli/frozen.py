"""Servers that an auditor caught: ``guardian`` and ``registrar`` list them and trust them again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from underseal_auditor.store.database import Database
from underseal_auditor.store.frozen import FrozenServers
from underseal_core.errors import NotFound
from underseal_core.outcome import show

FrozenData = Annotated[Path, typer.Option("--data", help="The auditor's own folder.")]
FrozenJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def list_frozen(path: Path, *, as_json: bool) -> None:
    """Print what is frozen in an auditor's database."""
    with _frozen(path) as servers:
        found = servers.all()
    facts = [
        {"server": one.name, "rule": one.rule, "request_sha256": one.request_sha256, "at": one.at}
        for one in found
    ]
    lines = [f"{one.at}  {one.name}  {one.rule}  request {one.request_sha256}" for one in found]
    show({"frozen": facts}, "\n".join(lines) or "no server is frozen", as_json=as_json)


def unfreeze_server(path: Path, server: str, *, as_json: bool) -> None:
    """Trust a server again."""
    with _frozen(path) as servers:
        servers.unfreeze(server)
    show({"unfrozen": server}, f"server {server} is trusted again", as_json=as_json)


@contextmanager
def _frozen(path: Path) -> Iterator[FrozenServers]:
    if not path.exists():
        raise NotFound(f"no auditor keeps its data in {path.parent}")
    database = Database(path)
    try:
        yield FrozenServers(database)
    finally:
        database.close()
