"""Failed zero tests: ``guardian`` and ``registrar`` list whose they were and forget them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from underseal_auditor.store.database import Database
from underseal_auditor.store.tested import SoundUnits, Suspect
from underseal_core.errors import NotFound
from underseal_core.outcome import show

MalformedData = Annotated[Path, typer.Option("--data", help="The auditor's own folder.")]
MalformedJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MalformedClient = Annotated[str, typer.Option("--client", help="A client of the policy.")]
MalformedGallery = Annotated[str, typer.Option("--gallery", help="SERVER/GALLERY.")]


def list_malformed(path: Path, *, as_json: bool) -> None:
    """Print whose tests failed or were abandoned, and how often."""
    with _record(path) as record:
        found = record.failed()
    facts = [{"kind": one.kind, "name": one.name, "failed": count} for one, count in found]
    lines = [f"{one.kind} {one.name}  failed {count}" for one, count in found]
    show({"malformed": facts}, "\n".join(lines) or "no zero test failed", as_json=as_json)


def forgive(path: Path, client: str, gallery: str, *, as_json: bool) -> None:
    """Forget the failed tests of a client, of a gallery, or of both."""
    chosen = [Suspect("client", client)] if client else []
    chosen += [Suspect("gallery", gallery)] if gallery else []
    if not chosen:
        raise typer.BadParameter("name a client or a gallery")
    with _record(path) as record:
        for one in chosen:
            record.forgive(one)
    names = [f"{one.kind} {one.name}" for one in chosen]
    show({"forgiven": names}, f"forgotten: {', '.join(names)}", as_json=as_json)


@contextmanager
def _record(path: Path) -> Iterator[SoundUnits]:
    if not path.exists():
        raise NotFound(f"no auditor keeps its data in {path.parent}")
    database = Database(path)
    try:
        yield SoundUnits(database, "")
    finally:
        database.close()
