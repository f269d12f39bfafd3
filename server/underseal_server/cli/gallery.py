"""``underseal-server gallery``: galleries of a stopped server into archives and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from underseal_core.credentials import Credentials, Role
from underseal_core.errors import InvalidInput
from underseal_core.outcome import show
from underseal_core.rpc.tls import own_peer
from underseal_server.archive.exporting import Exporter, Signer
from underseal_server.archive.importing import Importer, verify_archive
from underseal_server.archive.seal import ArchiveSeal
from underseal_server.engine.keys import KeyEpochs
from underseal_server.settings import Settings, load_settings
from underseal_server.store.places import IDENTITY
from underseal_server.store.store import BUNDLES, Store

app = typer.Typer(
    help="Archives of galleries, in the data folder of a stopped server.", no_args_is_help=True
)

Config = Annotated[Path | None, typer.Option(help="Settings file, TOML.")]
Data = Annotated[Path | None, typer.Option(help="Data folder of a stopped server.")]
Own = Annotated[Path | None, typer.Option("--credentials", help="The server's credentials.")]
Signers = Annotated[
    list[str] | None,
    typer.Option("--signer", help="Key of a server whose archives are taken; 64 hex digits."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("export")
def export_gallery(
    name: Annotated[str, typer.Argument(help="The gallery.")],
    file: Annotated[Path, typer.Argument(help="The archive; must not exist.")],
    config: Config = None,
    data: Data = None,
    credentials: Own = None,
    *,
    with_bundle: Annotated[
        bool, typer.Option("--bundle/--no-bundle", help="Put the public bundle in.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Write a gallery into an archive, still encrypted, and seal it with the server's key."""
    settings = load_settings(config, data=data, credentials=credentials)
    signer = _signer(settings)
    with _opened(settings) as (store, keys):
        total = store.units.bytes_stored(store.galleries.get(name))
        with _progress(total) as told:
            wrote = [0]

            def more(size: int) -> None:
                wrote[0] += size
                told(wrote[0])

            archive = Exporter(store, keys, signer, more).export(
                name, file, with_bundle=with_bundle
            )
    facts = {**asdict(archive), "gallery": name, "bytes": file.stat().st_size}
    line = f"{file}: gallery {name} at version {archive.version}, snapshot {archive.root}"
    show(facts, line, as_json=as_json)


@app.command("import")
def import_gallery(
    file: Annotated[Path, typer.Argument(help="The archive.")],
    config: Config = None,
    data: Data = None,
    credentials: Own = None,
    signers: Signers = None,
    *,
    as_json: Json = False,
) -> None:
    """Make a gallery of an archive: all of it, or nothing if anything is wrong with it."""
    settings = load_settings(config, data=data, credentials=credentials)
    trusted = _trusted(settings, signers)
    with _opened(settings) as (store, keys), _progress(_size(file)) as told:
        _, seal = Importer(store, keys, trusted, told).load(file)
    _show_seal(seal, as_json=as_json)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="The archive.")],
    config: Config = None,
    credentials: Own = None,
    signers: Signers = None,
    *,
    as_json: Json = False,
) -> None:
    """Read an archive to its end, check its digests and its seal, and store nothing."""
    trusted = _trusted(load_settings(config, credentials=credentials), signers)
    with _progress(_size(file)) as told:
        seal = verify_archive(file, trusted, told)
    _show_seal(seal, as_json=as_json)


@app.command()
def archives(
    name: Annotated[str, typer.Argument(help="The gallery.")],
    config: Config = None,
    data: Data = None,
    *,
    as_json: Json = False,
) -> None:
    """List the archives that were made of a gallery, or that it came from."""
    with _opened(load_settings(config, data=data)) as (store, _):
        found = store.archives.all(name)
    lines = [f"{one.exported_at}  version {one.version}  {one.archive_id}" for one in found]
    facts = {"archives": [asdict(one) for one in found]}
    show(facts, "\n".join(lines) or "no archives", as_json=as_json)


@app.command()
def history(
    name: Annotated[str, typer.Argument(help="The gallery.")],
    config: Config = None,
    data: Data = None,
    *,
    as_json: Json = False,
) -> None:
    """List the versions that were named to anybody, with their snapshot roots."""
    with _opened(load_settings(config, data=data)) as (store, _):
        found = list(store.snapshots.all(store.galleries.get(name)))
    lines = [f"{one.named_at}  version {one.version}  {one.root}" for one in found]
    facts = {"snapshots": [asdict(one) for one in found]}
    show(facts, "\n".join(lines) or "no snapshots", as_json=as_json)


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[Store, KeyEpochs]]:
    data = settings.data
    if not (data / IDENTITY).is_file() and not (data / BUNDLES).is_dir():
        raise InvalidInput(
            f"{data} is not a server's data folder",
            hint="make one with: underseal-server bundle add FILE",
        )
    store = Store(data, catalogue=settings.catalogue_url(), objects=settings.object_storage())
    keys = KeyEpochs(data / BUNDLES, settings.threads)
    try:
        yield store, keys
    finally:
        keys.close()
        store.close()


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)


def _signer(settings: Settings) -> Signer:
    credentials = Credentials.load(settings.credentials)
    peer = own_peer(credentials)
    if peer.role is not Role.SERVER:
        raise InvalidInput(f"these are credentials of role {peer.role}, not of a server")
    return Signer(peer.name, credentials.identity)


def _trusted(settings: Settings, signers: list[str] | None) -> frozenset[bytes]:
    """Return the keys named; without any, the server's own."""
    if not signers:
        return frozenset({_signer(settings).identity.public_key})
    try:
        return frozenset(bytes.fromhex(signer) for signer in signers)
    except ValueError as error:
        raise InvalidInput("a server's key has 64 hexadecimal digits") from error


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _show_seal(seal: ArchiveSeal, *, as_json: bool) -> None:
    line = (
        f"gallery {seal.gallery} at version {seal.gallery_version}, snapshot {seal.snapshot_root}: "
        f"{seal.live_templates} templates in {seal.units} units, "
        f"exported by {seal.server} at {seal.exported_at}"
    )
    show(seal.model_dump(mode="json"), line, as_json=as_json)
