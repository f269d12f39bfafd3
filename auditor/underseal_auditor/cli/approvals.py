"""``underseal-auditor approvals``: a person's look at requests, and signed decisions."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from underseal_auditor.connection import RegistrarApprovals
from underseal_auditor.petition import Petition
from underseal_core.credentials import Credentials
from underseal_core.errors import InvalidInput, NotFound
from underseal_core.outcome import show
from underseal_core.rpc.tls import own_peer

app = typer.Typer(help="Requests that wait for persons.", no_args_is_help=True)

RegistrarOption = Annotated[str, typer.Option(help="HOST:PORT.")]
CredentialsOption = Annotated[Path, typer.Option(help="Own credentials folder, of an approver.")]
IdArgument = Annotated[str, typer.Argument(help="Request id.")]
ReasonOption = Annotated[str, typer.Option(help="A code such as checked; signed and kept.")]
HoursOption = Annotated[int, typer.Option(min=1, max=168, help="The decision holds so long.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(name="list")
def list_(
    registrar: RegistrarOption, credentials: CredentialsOption, *, as_json: JsonOption = False
) -> None:
    """List what waits, oldest first."""
    with closing(RegistrarApprovals(registrar, Credentials.load(credentials))) as link:
        found = link.petitions()
    lines = [
        f"{p.request.request_id}  {p.request.client}  {p.request.purpose}  {p.request.gallery}  "
        f"{len(p.approving)} of {p.needed}  until {p.expires_at}"
        for p in found
    ]
    shown = "\n".join(lines) or "nothing waits"
    show({"pending": [p.facts() for p in found]}, shown, as_json=as_json)


@app.command(name="show")
def show_(
    request_id: IdArgument,
    registrar: RegistrarOption,
    credentials: CredentialsOption,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one request: who asks, what for, in which gallery. No score exists yet."""
    with closing(RegistrarApprovals(registrar, Credentials.load(credentials))) as link:
        _print(_one(link, request_id), as_json=as_json)


@app.command()
def approve(
    request_id: IdArgument,
    registrar: RegistrarOption,
    credentials: CredentialsOption,
    reason: ReasonOption = "checked",
    hours: HoursOption = 24,
    *,
    as_json: JsonOption = False,
) -> None:
    """Sign that a request may be opened."""
    _decide(request_id, registrar, credentials, "approve", reason, hours, as_json=as_json)


@app.command()
def refuse(
    request_id: IdArgument,
    registrar: RegistrarOption,
    credentials: CredentialsOption,
    reason: ReasonOption = "not-justified",
    hours: HoursOption = 168,
    *,
    as_json: JsonOption = False,
) -> None:
    """Sign that a request must not be opened; one person suffices."""
    _decide(request_id, registrar, credentials, "refuse", reason, hours, as_json=as_json)


def _decide(
    request_id: str,
    registrar: str,
    folder: Path,
    decision: Literal["approve", "refuse"],
    reason: str,
    hours: int,
    *,
    as_json: bool,
) -> None:
    credentials = Credentials.load(folder)
    name, now, validity = own_peer(credentials).name, datetime.now(UTC), timedelta(hours=hours)
    with closing(RegistrarApprovals(registrar, credentials)) as link:
        petition = _one(link, request_id)
        try:
            approval = petition.decision(name, decision, reason, now, validity)
        except ValidationError:
            raise InvalidInput("a reason is a short lower-case name such as checked") from None
        _print(link.decide(approval.sign(credentials.identity)), as_json=as_json)


def _one(link: RegistrarApprovals, request_id: str) -> Petition:
    for petition in link.petitions():
        if petition.request.request_id == request_id:
            return petition
    raise NotFound("no such request waits for approval", hint="underseal-auditor approvals list")


def _print(petition: Petition, *, as_json: bool) -> None:
    facts = petition.facts()
    lines = "\n".join(
        f"{name:15} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in facts.items()
    )
    show(facts, lines, as_json=as_json)
