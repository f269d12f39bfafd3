"""``underseal gallery``: the templates in a gallery."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from underseal_client.cli.galleries import Name
from underseal_client.cli.output import Json, counted, note, print_json, print_table, say
from underseal_client.cli.session import client_of, template_ids
from underseal_client.records import TemplateFilter
from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from underseal_client.client import Client
    from underseal_client.records import StoredTemplate

_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]
Ids = Annotated[list[str] | None, typer.Argument(help="Template ids.")]
OfSubject = Annotated[str, typer.Option("--subject", help="Only templates of this subject.")]
From = Annotated[
    datetime | None,
    typer.Option("--enrolled-from", formats=_FORMATS, help="Enrolled then or later, UTC."),
]
Before = Annotated[
    datetime | None,
    typer.Option("--enrolled-before", formats=_FORMATS, help="Enrolled before then, UTC."),
]
By = Annotated[str, typer.Option("--by", help="Enrolled by this client.")]
OfUnit = Annotated[str, typer.Option("--unit", help="Of the unit with this token.")]
Expired = Annotated[
    bool, typer.Option("--expired", help="Past the time that they were to be kept.")
]


def _filter(
    start: datetime | None, end: datetime | None, by: str, unit: str, *, expired: bool
) -> TemplateFilter:
    return TemplateFilter(
        None if start is None else start.replace(tzinfo=UTC),
        None if end is None else end.replace(tzinfo=UTC),
        by,
        _token(unit),
        expired,
    )


def _token(text: str) -> bytes:
    try:
        token = bytes.fromhex(text)
    except ValueError:
        token = b"-"
    if len(token) not in (0, 16):
        raise InvalidInput(
            "a unit's token has 32 hexadecimal digits", hint="see `underseal gallery templates`"
        )
    return token


def _json(entry: StoredTemplate) -> dict[str, object]:
    return {
        **asdict(entry),
        "template_id": entry.template_id.hex(),
        "subject_id": entry.subject_id.hex(),
        "unit_token": entry.unit_token.hex(),
    }


def templates(
    context: typer.Context,
    name: Name,
    subject: OfSubject = "",
    enrolled_from: From = None,
    enrolled_before: Before = None,
    by: By = "",
    unit: OfUnit = "",
    expired: Expired = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Length of the page.")] = 100,
    after: Annotated[str, typer.Option(help="Go on where the page before ended.")] = "",
    as_json: Json = False,
) -> None:
    """List templates, a page at a time: opaque ids, no names."""
    where = _filter(enrolled_from, enrolled_before, by, unit, expired=expired)
    with client_of(context) as client:
        page = client.template_page(name, subject=subject, where=where, after=after, limit=limit)
    if as_json:
        entries = [_json(entry) for entry in page.templates]
        print_json({"templates": entries, "matching": page.matching, "after": page.after})
        return
    rows = [
        (
            entry.template_id.hex(),
            entry.subject_id.hex()[:8],
            entry.enrolled_by,
            entry.enrolled_at[:16].replace("T", " "),
            entry.keep_until[:10],
            "yes" if entry.searchable else "not yet",
        )
        for entry in page.templates
    ]
    headers = ("TEMPLATE", "SUBJECT", "BY", "AT (UTC)", "UNTIL", "SEARCHED")
    print_table(headers, rows, whole=("TEMPLATE",))
    if page.after:
        note(f"{page.matching:,} in all; the next ones: --after {page.after}")


def remove(
    context: typer.Context,
    name: Name,
    ids: Ids = None,
    subject: OfSubject = "",
    enrolled_from: From = None,
    enrolled_before: Before = None,
    by: By = "",
    unit: OfUnit = "",
    expired: Expired = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many it would be.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove templates by id, of a subject, or all that the other options mean together."""
    chosen = template_ids(ids or [])
    where = _filter(enrolled_from, enrolled_before, by, unit, expired=expired)
    if bool(chosen) == bool(subject or where):
        raise InvalidInput(
            "name either template ids, or a subject or what else they have in common",
            hint="see `underseal gallery templates`",
        )
    with client_of(context) as client:
        count = len(chosen) or _count(client, name, subject, where)
        if dry_run:
            _tell("would_remove", count, "would remove", as_json=as_json)
            return
        if not yes:
            question = f"Remove {counted(count, 'template')} from gallery {name}?"
            typer.confirm(question, abort=True, err=True)
        if chosen:
            removed = client.remove_templates(name, chosen)
        elif where:
            removed = client.remove_where(name, where, subject=subject)
        else:
            removed = client.remove_subject(name, subject)
    _tell("removed", removed, "removed", as_json=as_json)


def _count(client: Client, name: str, subject: str, where: TemplateFilter) -> int:
    return client.template_page(name, subject=subject, where=where, limit=1).matching


def _tell(key: str, number: int, did: str, *, as_json: bool) -> None:
    if as_json:
        print_json({key: number})
    else:
        say(f"{did} {counted(number, 'template')}")


def relabel(
    context: typer.Context,
    name: Name,
    new_name: Annotated[str, typer.Option("--name", help="The person's name in the new label.")],
    ids: Ids = None,
    subject: OfSubject = "",
    photo: Annotated[str, typer.Option(help="What the label says of the photo.")] = "",
    case: Annotated[str, typer.Option(help="Reference of the case.")] = "",
    as_json: Json = False,
) -> None:
    """Give templates that were enrolled from here another label: all of it, sealed anew."""
    chosen = template_ids(ids or [])
    with client_of(context) as client:
        count = client.relabel(
            name, name=new_name, photo=photo, case=case, subject=subject, template_ids=chosen
        )
    if as_json:
        print_json({"relabelled": count})
    else:
        say(f"relabelled {counted(count, 'template')}")
