"""``underseal gallery`` and ``underseal template``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from underseal_client.cli.output import Json, counted, print_json, print_table, say
from underseal_client.cli.session import client_of, template_ids
from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from underseal_client.records import Gallery, StoredTemplate

gallery_app = typer.Typer(help="Encrypted galleries on the server.", no_args_is_help=True)
template_app = typer.Typer(help="Templates in a gallery.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The gallery's name.")]
InGallery = Annotated[str, typer.Option("--gallery", "-g", help="The gallery's name.")]


def _gallery_json(gallery: Gallery) -> dict[str, object]:
    return {**asdict(gallery), "pin": gallery.pin.model_dump()}


def _show(gallery: Gallery) -> None:
    pin = gallery.pin
    rows = [
        ("name", gallery.name),
        ("templates", gallery.templates),
        ("pending", gallery.pending_templates),
        ("blocks", gallery.blocks),
        ("stored", f"{gallery.bytes_stored:,} bytes"),
        ("model", f"{pin.model_id} ({pin.model_dimension})"),
        ("profile", pin.profile),
        ("key epoch", pin.key_epoch),
        ("writers", ", ".join(gallery.writers)),
        ("per subject", gallery.max_templates_per_subject or "no limit"),
        ("kept for", f"{gallery.max_keep_days} days at most" if gallery.max_keep_days else "ever"),
        ("version", gallery.version),
        ("snapshot", gallery.snapshot_root),
        ("created", gallery.created_at),
    ]
    for name, value in rows:
        say(f"{name:12} {value}")


@gallery_app.command("create")
def create(
    context: typer.Context,
    name: Name,
    writer: Annotated[
        list[str] | None, typer.Option(help="Another client that may enrol and remove; repeat.")
    ] = None,
    max_per_subject: Annotated[
        int, typer.Option(min=0, help="Templates of one person; 0: the server's default.")
    ] = 0,
    max_keep_days: Annotated[
        int, typer.Option(min=0, help="Keep nothing for longer than this; 0: no limit.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Make a gallery, pinned to the model and to the auditors' keys."""
    with client_of(context) as client:
        gallery = client.create_gallery(
            name,
            writers=writer or [],
            max_templates_per_subject=max_per_subject,
            max_keep_days=max_keep_days,
        )
    if as_json:
        print_json(_gallery_json(gallery))
    else:
        say(f"gallery {gallery.name} is ready, {counted(gallery.templates, 'template')} in it")


@gallery_app.command("list")
def list_galleries(context: typer.Context, as_json: Json = False) -> None:
    """List the galleries."""
    with client_of(context) as client:
        galleries = list(client.galleries())
    if as_json:
        print_json([_gallery_json(gallery) for gallery in galleries])
        return
    print_table(
        ("NAME", "TEMPLATES", "MODEL", "PROFILE", "BYTES"),
        [
            (g.name, g.templates, g.pin.model_id, g.pin.profile, f"{g.bytes_stored:,}")
            for g in galleries
        ],
        numbers=("TEMPLATES", "BYTES"),
    )


@gallery_app.command("show")
def show(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Describe a gallery."""
    with client_of(context) as client:
        gallery = client.gallery(name)
    if as_json:
        print_json(_gallery_json(gallery))
    else:
        _show(gallery)


@gallery_app.command("relabel")
def relabel(
    context: typer.Context,
    name: Name,
    new_name: Annotated[str, typer.Option("--name", help="The person's name in the new label.")],
    ids: Annotated[list[str] | None, typer.Argument(help="Template ids.")] = None,
    subject: Annotated[str, typer.Option(help="All templates of this subject.")] = "",
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


@gallery_app.command("delete")
def delete(
    context: typer.Context,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a gallery with everything in it."""
    if not yes:
        typer.confirm(f"Delete gallery {name} with all its templates?", abort=True, err=True)
    with client_of(context) as client:
        client.delete_gallery(name)
    if as_json:
        print_json({"deleted": name})
    else:
        say(f"deleted gallery {name}")


def _template_json(entry: StoredTemplate) -> dict[str, object]:
    return {
        "template_id": entry.template_id.hex(),
        "subject_id": entry.subject_id.hex(),
        "block": entry.block,
        "slot": entry.slot,
        "enrolled_by": entry.enrolled_by,
        "enrolled_at": entry.enrolled_at,
        "keep_until": entry.keep_until,
        "unit_token": entry.unit_token.hex(),
        "searchable": entry.searchable,
    }


@template_app.command("list")
def list_templates(
    context: typer.Context,
    gallery: InGallery,
    subject: Annotated[str, typer.Option(help="Only templates of this subject.")] = "",
    as_json: Json = False,
) -> None:
    """List templates: opaque ids, no names."""
    with client_of(context) as client:
        entries = [_template_json(e) for e in client.templates(gallery, subject=subject)]
    if as_json:
        print_json(entries)
    else:
        rows = [
            (
                entry["template_id"],
                str(entry["subject_id"])[:8],
                entry["enrolled_by"],
                str(entry["enrolled_at"])[:16].replace("T", " "),
            )
            for entry in entries
        ]
        print_table(("TEMPLATE", "SUBJECT", "BY", "AT (UTC)"), rows, whole=("TEMPLATE",))


@template_app.command("remove")
def remove(
    context: typer.Context,
    gallery: InGallery,
    ids: Annotated[list[str] | None, typer.Argument(help="Template ids.")] = None,
    subject: Annotated[str, typer.Option(help="Remove all templates of this subject.")] = "",
    as_json: Json = False,
) -> None:
    """Remove templates by id, or all of one subject."""
    if bool(ids) == bool(subject):
        raise InvalidInput(
            "name either template ids or --subject", hint="see `underseal template list`"
        )
    with client_of(context) as client:
        if subject:
            removed = client.remove_subject(gallery, subject)
        else:
            removed = client.remove_templates(gallery, template_ids(ids or []))
    if as_json:
        print_json({"removed": removed})
    else:
        say(f"removed {counted(removed, 'template')}")
