"""The command's tree and its options that go before the verb."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from underseal_client.cli import (
    bundles,
    demonstrating,
    enroll,
    erasures,
    galleries,
    models,
    projections,
    releases,
    replaying,
    searching,
    templates,
    warrants,
)
from underseal_client.cli.output import show_error
from underseal_client.settings import CONFIG_VARIABLE, ClientSettings

app = typer.Typer(
    name="underseal",
    help="Encrypted face search: photos stay here, scores are opened by the auditors only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
galleries.gallery_app.command("templates")(templates.templates)
galleries.gallery_app.command("remove")(templates.remove)
galleries.gallery_app.command("erasures")(erasures.erasures)
galleries.gallery_app.command("relabel")(templates.relabel)
app.add_typer(galleries.gallery_app, name="gallery")
app.command("enroll")(enroll.enroll)
app.command("search")(searching.search)
app.command("verify")(searching.verify)
app.command("warrant")(warrants.warrant)
app.add_typer(releases.release_app, name="release")
app.add_typer(models.models_app, name="models")
app.add_typer(projections.projection_app, name="projection")
app.add_typer(bundles.bundle_app, name="bundle")
app.command("demo")(demonstrating.demo)
app.command("replay")(replaying.replay)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("underseal"))
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar=CONFIG_VARIABLE,
            help="Settings file; else client.toml in your configuration folder.",
        ),
    ] = None,
    server: Annotated[str | None, typer.Option(help="Server, host:port.")] = None,
    registrar: Annotated[str | None, typer.Option(help="Registrar, host:port.")] = None,
    credentials: Annotated[
        Path | None, typer.Option(help="Folder of certificate, keys and identity.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="The auditors' public bundle.")] = None,
    model: Annotated[str | None, typer.Option(help="Face model: a pack's name or folder.")] = None,
    accept_noncommercial: Annotated[
        bool | None,
        typer.Option(
            "--accept-noncommercial", help="My use is non-commercial research (buffalo_l)."
        ),
    ] = None,
    projection: Annotated[
        Path | None, typer.Option(help="Public projection of templates to fewer dimensions.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the face models; 0: one per core.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take the options that all commands share."""

    def load() -> ClientSettings:
        return ClientSettings.load(
            config,
            server=server,
            registrar=registrar,
            credentials=credentials,
            bundle=bundle,
            model=model,
            accept_noncommercial=accept_noncommercial,
            projection=projection,
            threads=threads,
        )

    context.obj = load


def run() -> None:
    """Run the command; exit with a code that names the class of error."""
    try:
        app()
    except ModuleNotFoundError:
        raise  # the extra is named, see command_of
    except Exception as error:  # noqa: BLE001 - the last resort: one line, no traceback
        sys.exit(int(show_error(error)))
