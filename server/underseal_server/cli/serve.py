"""``underseal-server serve``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from underseal_core.outcome import show
from underseal_core.rpc import logging
from underseal_server.api.serving import serve as run_server
from underseal_server.settings import load_settings


def serve(
    config: Annotated[Path | None, typer.Option(help="Settings file, TOML.")] = None,
    listen: Annotated[str | None, typer.Option(help="host:port; port 0 takes a free one.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder.")] = None,
    credentials: Annotated[Path | None, typer.Option(help="The server's credentials.")] = None,
    bundle: Annotated[list[Path] | None, typer.Option(help="Public bundle to add.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads per computation.")] = None,
    queue_length: Annotated[int | None, typer.Option(help="Searches that may wait.")] = None,
    metrics_listen: Annotated[str | None, typer.Option(help="host:port for Prometheus.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING, ERROR.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Serve until SIGINT or SIGTERM. Prints one line when it is ready; logs go to stderr."""
    settings = load_settings(
        config,
        listen=listen,
        data=data,
        credentials=credentials,
        bundles=tuple(bundle) if bundle else None,
        threads=threads,
        queue_length=queue_length,
        metrics_listen=metrics_listen,
        log_level=log_level,
    )
    logging.configure(settings.log_level)
    host = settings.listen.rpartition(":")[0]

    def started(port: int) -> None:
        address = f"{host}:{port}"
        show({"listening": address}, f"listening on {address}", as_json=as_json)

    asyncio.run(run_server(settings, started))
