"""``underseal-auditor registrar serve``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from underseal_auditor.api.reloading import on_hangup
from underseal_auditor.api.serving import DATABASE_NAME, RegistrarProcess
from underseal_auditor.cli.passphrase import read_passphrase
from underseal_auditor.cli.upkeep import add_upkeep
from underseal_auditor.settings import load_settings
from underseal_core.outcome import show
from underseal_core.rpc import logging

app = typer.Typer(help="The auditors' front door.", no_args_is_help=True)


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    listen: Annotated[str | None, typer.Option(help="host:port; port 0 takes a free one.")] = None,
    credentials: Annotated[Path | None, typer.Option(help="Credentials folder.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Public bundle of the ceremony.")] = None,
    successions: Annotated[
        Path | None, typer.Option(help="Successions; else those beside the bundle.")
    ] = None,
    earlier: Annotated[
        list[Path] | None,
        typer.Option(help="Keys of an epoch before: bundle.usb, switching.usk; repeatable."),
    ] = None,
    share: Annotated[Path | None, typer.Option(help="Sealed key share.")] = None,
    label_key: Annotated[Path | None, typer.Option(help="Sealed label key.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy file.")] = None,
    data: Annotated[Path | None, typer.Option(help="The registrar's own folder.")] = None,
    log: Annotated[Path | None, typer.Option(help="Folder that log create made.")] = None,
    witness: Annotated[
        list[Path] | None, typer.Option(help="Key file of a witness of the log; repeatable.")
    ] = None,
    server: Annotated[list[str] | None, typer.Option(help="NAME=HOST:PORT, repeatable.")] = None,
    guardian: Annotated[
        list[str] | None, typer.Option(help="POINT=HOST:PORT, repeatable; instead of --share.")
    ] = None,
    max_submissions: Annotated[int | None, typer.Option(help="At a time.")] = None,
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None, typer.Option()
    ] = None,
    passphrase_file: Annotated[Path | None, typer.Option(help="Opens share and label key.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Serve until SIGINT or SIGTERM; SIGHUP reads the policy again.

    Prints one line when it is ready; logs go to stderr.
    """
    flags: dict[str, object] = {
        "listen": listen,
        "credentials": credentials,
        "bundle": bundle,
        "successions": successions,
        "earlier": earlier or None,
        "share": share,
        "label_key": label_key,
        "policy": policy,
        "data": data,
        "log": log,
        "witnesses": witness or None,
        "servers": server or None,
        "guardians": guardian or None,
        "max_submissions": max_submissions,
        "log_level": log_level,
    }
    settings = load_settings(config, flags)
    logging.configure(settings.log_level)
    process = RegistrarProcess(settings, read_passphrase(passphrase_file))
    try:
        asyncio.run(_serve(process, as_json=as_json))
    finally:
        process.close()


add_upkeep(app, "registrar", DATABASE_NAME)


async def _serve(process: RegistrarProcess, *, as_json: bool) -> None:
    on_hangup(process.reload)
    address = await process.start()
    facts = {
        "listening": address,
        "key_epoch": process.key_epoch,
        "policy_sha256": process.policy_sha256,
        "log_vkey": process.log_vkey,
    }
    lines = f"listening on {address}, key epoch {process.key_epoch[:16]}"
    show(facts, lines, as_json=as_json)
    await process.serve_until_signal()
