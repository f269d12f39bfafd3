"""``underseal-server init``: a development authority and everybody's credentials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from underseal_core.credentials import Peer, Role
from underseal_core.errors import Conflict, InvalidInput
from underseal_core.outcome import show
from underseal_server.pki import LOOPBACK, Authority, issue

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_FOLDERS: Final = {
    Role.CLIENT: "clients",
    Role.AUDITOR: "auditors",
    Role.OPERATOR: "operators",
    Role.APPROVER: "approvers",
}


def init(
    folder: Annotated[Path, typer.Argument(help="Where the credentials go.")],
    client: Annotated[list[str] | None, typer.Option(help="Name of a client.")] = None,
    auditor: Annotated[list[str] | None, typer.Option(help="Name of an auditor.")] = None,
    operator: Annotated[list[str] | None, typer.Option(help="Name of an operator.")] = None,
    approver: Annotated[list[str] | None, typer.Option(help="Name of an approver.")] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(help="Name or address that server and auditors listen on; loopback always."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a development authority, the server's credentials, and more participants.

    Run again with other names, it adds participants.
    For production use an authority of your own: see the server's reference.
    """
    names = {Role.CLIENT: client, Role.AUDITOR: auditor, Role.OPERATOR: operator}
    wanted = _wanted({**names, Role.APPROVER: approver})
    hosts = (*LOOPBACK, *(host or []))
    new = not (folder / "ca" / "ca.crt").exists()
    taken = [path for _, path in wanted if (folder / path).exists()]
    if taken:
        raise Conflict(
            f"{taken[0]} has credentials already",
            hint="keys are never overwritten: name new participants only, or choose another folder",
        )
    if new:
        _make_authority(folder / "ca")
    authority = Authority.load(folder / "ca")
    made: list[tuple[Peer, Path]] = []
    if new:
        made.append((issue(authority, folder / "server", Role.SERVER, "server", hosts), folder))
    for (role, name), path in wanted:
        made.append((issue(authority, folder / path, role, name, hosts), folder / path))
    participants = [
        {"role": peer.role.value, "name": peer.name, "identity": peer.key.hex()} for peer, _ in made
    ]
    lines = [f"{entry['role']:9}{entry['name']:20}{entry['identity']}" for entry in participants]
    show({"folder": str(folder), "participants": participants}, "\n".join(lines), as_json=as_json)


def _make_authority(folder: Path) -> None:
    try:
        Authority.create().save(folder)
    except OSError as error:
        raise InvalidInput(
            f"cannot make the folder {folder}: {error.strerror}", hint="choose another folder"
        ) from error


def _wanted(named: Mapping[Role, list[str] | None]) -> list[tuple[tuple[Role, str], Path]]:
    wanted: list[tuple[tuple[Role, str], Path]] = []
    for role, names in named.items():
        for name in dict.fromkeys(names or []):
            if not _NAME.fullmatch(name):
                raise InvalidInput(
                    f"{name!r} is not a valid name",
                    hint="use 1 to 63 of a-z, 0-9, '.', '_' and '-'",
                )
            wanted.append(((role, name), Path(_FOLDERS[role]) / name))
    return wanted
