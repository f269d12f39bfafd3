"""The ``underseal-server`` command's tree."""

from __future__ import annotations

import typer

from underseal_server.cli import bundle, check, epoch, gallery, init, serve

app = typer.Typer(
    help="Keeps encrypted galleries and compares what it cannot read.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.command("init")(init.init)
app.command("serve")(serve.serve)
app.command("check")(check.check)
app.add_typer(bundle.app, name="bundle")
app.add_typer(epoch.app, name="epoch")
app.add_typer(gallery.app, name="gallery")
