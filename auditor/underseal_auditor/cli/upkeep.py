"""What ``guardian`` and ``registrar`` have in common: whom they refuse, and to trust them again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from underseal_auditor.cli.own_data import own_database
from underseal_auditor.store.frozen import FrozenServers
from underseal_auditor.store.tested import SoundUnits, Suspect
from underseal_core.outcome import show

DataOption = Annotated[Path, typer.Option("--data", help="The auditor's own folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ClientOption = Annotated[str, typer.Option("--client", help="A client of the policy.")]
GalleryOption = Annotated[str, typer.Option("--gallery", help="SERVER/GALLERY.")]
ErasureOption = Annotated[
    str, typer.Option("--erasure", help="SERVER/GALLERY: of new ciphertexts of its units.")
]


def add_upkeep(app: typer.Typer, role: str, database_name: str) -> None:
    """Give ``app`` the commands ``frozen``, ``unfreeze``, ``malformed`` and ``forgive``.

    Parameters
    ----------
    role
        Whose commands these are, for the help.
    database_name
        Of the role's database in its folder.
    """
    names = (database_name,)

    @app.command(help=f"List the servers that this {role} caught. Stop it first.")
    def frozen(data: DataOption, *, as_json: JsonOption = False) -> None:
        with own_database(data, names) as database:
            _list_frozen(FrozenServers(database), as_json=as_json)

    @app.command(help=f"Trust a server again. Stop the {role} first.")
    def unfreeze(server: str, data: DataOption, *, as_json: JsonOption = False) -> None:
        with own_database(data, names) as database:
            FrozenServers(database).unfreeze(server)
        show({"unfrozen": server}, f"server {server} is trusted again", as_json=as_json)

    @app.command(help=f"List whose zero tests failed, or were abandoned. Stop the {role} first.")
    def malformed(data: DataOption, *, as_json: JsonOption = False) -> None:
        with own_database(data, names) as database:
            _list_malformed(SoundUnits(database, ""), as_json=as_json)

    @app.command(help=f"Forget these tests, once their cause is gone. Stop the {role} first.")
    def forgive(
        data: DataOption,
        client: ClientOption = "",
        gallery: GalleryOption = "",
        erasure: ErasureOption = "",
        *,
        as_json: JsonOption = False,
    ) -> None:
        suspects = _suspects(client=client, gallery=gallery, erasure=erasure)
        with own_database(data, names) as database:
            record = SoundUnits(database, "")
            for one in suspects:
                record.forgive(one)
        forgiven = [f"{one.kind} {one.name}" for one in suspects]
        show({"forgiven": forgiven}, f"forgotten: {', '.join(forgiven)}", as_json=as_json)


def _list_frozen(servers: FrozenServers, *, as_json: bool) -> None:
    found = servers.all()
    facts = [
        {"server": one.name, "rule": one.rule, "request_sha256": one.request_sha256, "at": one.at}
        for one in found
    ]
    lines = [f"{one.at}  {one.name}  {one.rule}  request {one.request_sha256}" for one in found]
    show({"frozen": facts}, "\n".join(lines) or "no server is frozen", as_json=as_json)


def _list_malformed(record: SoundUnits, *, as_json: bool) -> None:
    found = record.standings()
    facts = [
        {
            "kind": one.suspect.kind,
            "name": one.suspect.name,
            "failed": one.failed,
            "abandoned": one.abandoned,
        }
        for one in found
    ]
    lines = [
        f"{one.suspect.kind} {one.suspect.name}  failed {one.failed}  abandoned {one.abandoned}"
        for one in found
    ]
    text = "\n".join(lines) or "no zero test failed or was abandoned"
    show({"malformed": facts}, text, as_json=as_json)


def _suspects(**named: str) -> list[Suspect]:
    """Return whose tests to forget, by kind; names may be empty."""
    chosen = [Suspect(kind, name) for kind, name in named.items() if name]
    if not chosen:
        raise typer.BadParameter("name a client, a gallery or an erasure")
    return chosen
