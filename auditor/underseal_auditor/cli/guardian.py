"""``underseal-auditor guardian serve``: answer a registrar with one share of the key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from underseal_auditor.api.guardian_process import DATABASE_NAME, GuardianProcess
from underseal_auditor.api.reloading import on_hangup
from underseal_auditor.cli.passphrase import read_passphrase
from underseal_auditor.cli.upkeep import add_upkeep
from underseal_auditor.settings import load_guardian_settings
from underseal_core.outcome import show
from underseal_core.rpc import logging

app = typer.Typer(help="One share of the key.", no_args_is_help=True)


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="TOML settings file.")] = None,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = None,
    credentials: Annotated[Path | None, typer.Option(help="Credentials folder.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Public bundle.")] = None,
    successions: Annotated[
        Path | None, typer.Option(help="Successions; else those beside the bundle.")
    ] = None,
    earlier: Annotated[
        list[Path] | None,
        typer.Option(help="Keys of an epoch before: bundle.usb, switching.usk; repeatable."),
    ] = None,
    share: Annotated[Path | None, typer.Option(help="Sealed key share.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy file.")] = None,
    log_key: Annotated[
        Path | None, typer.Option(help="The registrar's log.vkey: no log entry, no opening.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The guardian's own folder.")] = None,
    server: Annotated[list[str] | None, typer.Option(help="NAME=HOST:PORT, repeatable.")] = None,
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None, typer.Option()
    ] = None,
    passphrase_file: Annotated[Path | None, typer.Option(help="Opens the share.")] = None,
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
        "policy": policy,
        "log_key": log_key,
        "data": data,
        "servers": server or None,
        "log_level": log_level,
    }
    settings = load_guardian_settings(config, flags)
    logging.configure(settings.log_level)
    process = GuardianProcess(settings, read_passphrase(passphrase_file))
    try:
        asyncio.run(_serve(process, as_json=as_json))
    finally:
        process.close()


add_upkeep(app, "guardian", DATABASE_NAME)


async def _serve(process: GuardianProcess, *, as_json: bool) -> None:
    on_hangup(process.reload)
    address = await process.start()
    facts = {
        "listening": address,
        "point": process.point,
        "key_epoch": process.key_epoch,
        "policy_sha256": process.policy_sha256,
    }
    lines = f"guardian {process.point} on {address}, key epoch {process.key_epoch[:16]}"
    show(facts, lines, as_json=as_json)
    await process.serve_until_signal()
