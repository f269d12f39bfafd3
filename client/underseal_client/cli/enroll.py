"""``underseal enroll``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from underseal_client.cli.folders import stopped_by_sigterm
from underseal_client.cli.galleries import InGallery
from underseal_client.cli.output import (
    Json,
    NoSuchPhoto,
    counted,
    err,
    note,
    print_json,
    print_table,
    say,
)
from underseal_client.cli.quality import LargestFace, MinFacePixels, bars
from underseal_client.cli.session import client_of
from underseal_core.errors import InvalidInput
from underseal_core.outcome import ExitCode

if TYPE_CHECKING:
    from types import TracebackType

    from underseal_client.enrolling import EnrolReport


class EnrolBars:
    """Two bars on stderr: photos looked at, templates stored."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=err,
        )
        self._looked_at = self._progress.add_task("looked at", total=None, visible=False)
        self._stored = self._progress.add_task("stored", total=None, visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def started(self, total: int) -> None:
        """See ``EnrolListener``."""
        self._progress.update(self._looked_at, total=total, visible=total > 0)
        self._progress.update(self._stored, total=total, visible=total > 0)

    def looked_at(self, count: int) -> None:
        """See ``EnrolListener``."""
        self._progress.advance(self._looked_at, count)

    def stored(self, count: int) -> None:
        """See ``EnrolListener``."""
        self._progress.advance(self._stored, count)


def enroll(
    context: typer.Context,
    gallery: InGallery,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Photos and folders of photos.")
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(help="In place of photos: embeddings that the gallery's model made, .npz."),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(help="Whom all the photos show; else sub-folder or file names say it."),
    ] = None,
    case: Annotated[str, typer.Option(help="Reference kept in the sealed labels.")] = "",
    keep_days: Annotated[
        int | None,
        typer.Option(min=1, max=36_525, help="Remove the templates by themselves after so long."),
    ] = None,
    keep_until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Remove them when this day (UTC) begins."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also photos that were enrolled before.")
    ] = False,
    single: Annotated[
        bool, typer.Option("--single", help="A row for each photo, to be searched with later.")
    ] = False,
    wait: Annotated[
        bool, typer.Option(help="Wait until searches compare with them; else until they are safe.")
    ] = True,
    min_face_pixels: MinFacePixels = None,
    largest_face: LargestFace = False,
    as_json: Json = False,
) -> None:
    """Enrol photos, or embeddings: encrypted here, stored by the server unread.

    Run it again after an interruption: it goes on where it stopped.
    Photos that cannot be used are listed with the reason; the exit code is 8.
    """
    photos = _checked(
        paths or [], embeddings, about_photos=(subject, min_face_pixels, largest_face)
    )
    until = _end(keep_days, keep_until)
    opened = client_of(context, bars(min_face_pixels, largest_face))
    with stopped_by_sigterm(), opened as client, EnrolBars() as shown:
        enrol = (
            partial(client.enroll, gallery, photos, subject=subject)
            if embeddings is None
            else partial(client.enroll_embeddings, gallery, embeddings)
        )
        try:
            report = enrol(
                case=case, keep_until=until, again=again, single=single, wait=wait, listener=shown
            )
        except KeyboardInterrupt:
            note("interrupted: the same command goes on where it stopped")
            raise
    if as_json:
        print_json(asdict(report))
    else:
        _show(report)
    if report.refused:
        raise typer.Exit(int(ExitCode.PARTIAL))


def _checked(
    paths: list[Path], embeddings: Path | None, about_photos: tuple[object, ...]
) -> list[Path]:
    """Return the photos' paths; refuse what is not there, or does not go together."""
    if embeddings is None and not paths:
        raise typer.BadParameter("name photos or folders, or --embeddings FILE")
    if embeddings is not None and (paths or any(about_photos)):
        raise typer.BadParameter("--embeddings takes the place of photos and of their options")
    for path in paths:
        if not path.exists():
            raise NoSuchPhoto(path)
    return paths


def _end(days: int | None, until: datetime | None) -> datetime | None:
    if days is not None and until is not None:
        raise InvalidInput("give either --keep-days or --keep-until")
    if days is not None:
        return datetime.now(UTC) + timedelta(days=days)
    return None if until is None else until.replace(tzinfo=UTC)


def _show(report: EnrolReport) -> None:
    enrolled = counted(report.enrolled, "template")
    say(f"enrolled {enrolled} into {report.gallery} in {report.seconds:.1f} s")
    if report.resumed:
        say(f"resumed {counted(report.resumed, 'template')} of an earlier run")
    if report.skipped:
        say(f"skipped {counted(report.skipped, 'photo')} enrolled before")
    if not (report.enrolled or report.resumed or report.skipped or report.refused):
        note("there are no photos; files that do not end like one are passed over")
    if report.refused:
        say(f"refused {len(report.refused)}:")
        rows = [(r.photo, r.subject, r.reason, r.error) for r in report.refused]
        print_table(("PHOTO", "SUBJECT", "REASON", "WHAT"), rows)
