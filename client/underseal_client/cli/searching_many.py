"""``underseal search`` with several photos or folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from underseal_client.cli.output import counted, err, note, print_line, say
from underseal_client.cli.showing import findings_json, show_release
from underseal_client.faces.errors import PhotoRefused
from underseal_client.faces.scan import list_photos
from underseal_core.errors import InvalidInput
from underseal_core.outcome import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from underseal_client.many import Answered, Sought


def search_photos(
    ask: Callable[[list[Sought]], Iterable[Answered]],
    paths: Sequence[Path],
    sought: Callable[[Path], Sought],
    as_json: bool,
) -> None:
    """Search with every photo among files and folders; print each answer when it is there.

    Parameters
    ----------
    ask
        Searches.
    paths
        Of photos and folders.
    sought
        What is asked with a photo.
    as_json
        A line for each, else text.

    Raises
    ------
    InvalidInput
        There are no photos.
    typer.Exit
        Some of them have no answer: code 8.
    """
    photos = [photo for photo, _ in list_photos(paths)]
    if not photos:
        raise InvalidInput("there are no photos", hint="name photos, or a folder that has some")
    without = 0
    with _bar() as shown:
        task = shown.add_task("answered", total=len(photos))
        for answered in ask([sought(photo) for photo in photos]):
            without += answered.error is not None
            _print(answered, photos[answered.index], as_json)
            shown.advance(task)
    if without:
        note(f"{counted(without, 'photo')} of {len(photos)} without an answer")
        raise typer.Exit(int(ExitCode.PARTIAL))


def _bar() -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=err)


def _print(answered: Answered, photo: Path, as_json: bool) -> None:
    if as_json:
        print_line(_json(answered, photo))
        return
    say(f"{photo}:")
    if answered.findings is not None:
        show_release(answered.findings.release, answered.findings.found, answered.findings.logged)
    elif answered.error is not None:
        say(f"  {answered.error.public}")


def _json(answered: Answered, photo: Path) -> dict[str, object]:
    """Return one line of ``--json``: what a search with the photo alone prints, or its error."""
    error = answered.error
    if answered.findings is not None or error is None:
        found = {} if answered.findings is None else findings_json(answered.findings)
        return {"photo": str(photo), **found}
    reason = error.reason if isinstance(error, PhotoRefused) else type(error).__name__
    return {"photo": str(photo), "error": error.public, "hint": error.hint, "reason": reason}
