"""``underseal gallery``: the galleries themselves; see ``templates`` for what is in them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from underseal_client.cli.output import Json, counted, print_json, print_table, say
from underseal_client.cli.session import client_of

if TYPE_CHECKING:
    from underseal_client.records import Gallery, Statistics

gallery_app = typer.Typer(help="Encrypted galleries on the server.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The gallery's name.")]
InGallery = Annotated[str, typer.Option("--gallery", "-g", help="The gallery's name.")]


def _gallery_json(gallery: Gallery) -> dict[str, object]:
    return {**asdict(gallery), "pin": gallery.pin.model_dump()}


def _show(gallery: Gallery, counted: Statistics) -> None:
    pin = gallery.pin
    rows = [
        ("name", gallery.name),
        ("templates", counted.active),
        ("pending", counted.pending),
        ("removed", counted.removed),
        ("subjects", counted.subjects),
        ("oldest", counted.oldest_enrolled_at or "none"),
        ("newest", counted.newest_enrolled_at or "none"),
        ("next to go", counted.next_keep_until or "none"),
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
    """Describe a gallery, and count what is in it."""
    with client_of(context) as client:
        gallery, counted = client.gallery(name), client.statistics(name)
    if as_json:
        print_json({**_gallery_json(gallery), "statistics": asdict(counted)})
    else:
        _show(gallery, counted)


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
