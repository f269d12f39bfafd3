"""``underseal-auditor erasures``: removed templates that are still to be erased."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from underseal_auditor.api.serving import RegistrarProcess
from underseal_auditor.cli.passphrase import read_passphrase
from underseal_auditor.erasing import Done, Due
from underseal_auditor.settings import load_settings
from underseal_core.errors import Busy
from underseal_core.outcome import show
from underseal_core.rpc import logging

app = typer.Typer(
    help="Erase removed templates from units that hold others. The registrar does so by itself "
    "every erase_seconds; these commands are for one that is stopped.",
    no_args_is_help=True,
)

Config = Annotated[Path | None, typer.Option(help="The registrar's TOML file of settings.")]
PassphraseFile = Annotated[Path | None, typer.Option(help="Opens share and label key.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(
    config: Config = None, passphrase_file: PassphraseFile = None, *, as_json: AsJson = False
) -> None:
    """Show what waits to be erased."""
    with closing(_registrar(config, passphrase_file)) as process:
        due = process.eraser.due()
    lines = [f"{_where(one)}: {one.templates} removed, not erased" for one in due]
    text = "\n".join(lines) or "nothing waits to be erased"
    show({"due": [_facts(one) for one in due]}, text, as_json=as_json)


@app.command()
def run(
    config: Config = None, passphrase_file: PassphraseFile = None, *, as_json: AsJson = False
) -> None:
    """Erase all that waits, with k guardians; whatever fails can be run again."""
    with closing(_registrar(config, passphrase_file)) as process:
        done = process.eraser.run()
    lines = [f"{_where(one.due)}: {_outcome(one)}" for one in done]
    facts = [
        {**_facts(one.due), "amendment": one.amendment_sha256, "failure": one.failure}
        for one in done
    ]
    show({"done": facts}, "\n".join(lines) or "nothing waits to be erased", as_json=as_json)
    failed = sum(bool(one.failure) for one in done)
    if failed:
        raise Busy(f"{failed} of {len(done)} units were not redacted", hint="run it again")


def _registrar(config: Path | None, passphrase_file: Path | None) -> RegistrarProcess:
    settings = load_settings(config, {})
    logging.configure(settings.log_level)
    return RegistrarProcess(settings, read_passphrase(passphrase_file))


def _where(due: Due) -> str:
    return f"{due.server}/{due.gallery} unit {due.unit.token.hex()}"


def _outcome(done: Done) -> str:
    if done.failure:
        return f"not erased: {done.failure}"
    return f"{done.due.templates} erased, amendment {done.amendment_sha256[:16]}"


def _facts(due: Due) -> dict[str, object]:
    return {
        "server": due.server,
        "gallery": due.gallery,
        "token": due.unit.token.hex(),
        "templates": due.templates,
    }
