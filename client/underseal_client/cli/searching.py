"""``underseal search`` and ``underseal verify``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.status import Status

from underseal_client.cli.galleries import InGallery
from underseal_client.cli.output import Json, NoSuchPhoto, err
from underseal_client.cli.quality import LargestFace, MinFacePixels, bars
from underseal_client.cli.searching_many import search_photos
from underseal_client.cli.session import client_of, template_ids
from underseal_client.cli.showing import show_findings
from underseal_client.many import Sought
from underseal_client.subset import names_in
from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from underseal_client.records import Progress

Photo = Annotated[Path, typer.Argument(help="A photo that shows one face.")]
Purpose = Annotated[str, typer.Option(help="A purpose that the auditors' policy knows.")]
Case = Annotated[str, typer.Option(help="Reference of the case; signed and logged.")]
Warrant = Annotated[str, typer.Option(help="Reference of an authorisation; signed.")]
Threshold = Annotated[
    float | None, typer.Option(min=0, max=0.9999, help="Raise the policy's threshold (cosine).")
]
_STAGES = {
    "embed": "looking at the photo",
    "encrypt": "encrypting",
    "compare": "the server compares",
    "open": "the auditors decide",
}


class SearchStatus:
    """One line on stderr that says what is going on."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def stage(self, name: str) -> None:
        """See ``SearchListener``."""
        self._status.update(_STAGES[name])

    def progress(self, progress: Progress) -> None:
        """See ``SearchListener``."""
        if progress.queued:
            self._status.update(f"{progress.queued} requests before this one")
        else:
            done = f"{progress.blocks_done} of {progress.blocks_total} blocks"
            self._status.update(f"{_STAGES['compare']}: {done}")


def search(
    context: typer.Context,
    gallery: InGallery,
    purpose: Purpose,
    case: Case,
    photos: Annotated[
        list[Path] | None, typer.Argument(help="Photos that show one face each, or folders.")
    ] = None,
    template: Annotated[
        str, typer.Option(help="Instead of a photo: an enrolled template's id.")
    ] = "",
    warrant: Warrant = "",
    subject: Annotated[
        list[str] | None, typer.Option(help="Compare with this subject only; repeat.")
    ] = None,
    subjects: Annotated[
        Path | None, typer.Option(help="Or with those in a file, one name on each line.")
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, max=1000, help="At most so many matches.")] = 10,
    threshold: Threshold = None,
    min_face_pixels: MinFacePixels = None,
    largest_face: LargestFace = False,
    as_json: Json = False,
) -> None:
    """Ask who in a gallery is on a photo. "No match" is an answer, with exit code 0.

    Several photos, or a folder of them, are asked about together; each is answered by itself,
    with --json as one line. If some have no answer, the exit code is 8.
    """
    quality, given = bars(min_face_pixels, largest_face), photos or []
    if bool(given) == bool(template):
        raise InvalidInput("search with a photo, or with --template ID")
    for photo in given:
        if not photo.exists():
            raise NoSuchPhoto(photo)
    named = _named(subject, subjects)
    with client_of(context, quality) as client:
        if len(given) > 1 or any(photo.is_dir() for photo in given):
            many = partial(client.search_many, gallery=gallery, subjects=named)
            sought = partial(Sought, purpose=purpose, case=case, warrant=warrant)
            search_photos(partial(many, top_k=top_k, threshold=threshold), given, sought, as_json)
            return
        with Status("connecting", console=err) as status:
            asked = partial(
                client.search if given else client.search_enrolled,
                gallery=gallery,
                purpose=purpose,
                case=case,
                warrant=warrant,
                subjects=named,
                top_k=top_k,
                threshold=threshold,
                listener=SearchStatus(status),
            )
            findings = asked(given[0] if given else template_ids([template])[0])
    show_findings(findings, as_json)


def _named(subject: list[str] | None, file: Path | None) -> list[str] | None:
    """Return whom to compare with; None for everybody."""
    if file is None:
        return subject or None
    return [*(subject or []), *names_in(file)]


def verify(
    context: typer.Context,
    photo: Photo,
    gallery: InGallery,
    purpose: Purpose,
    case: Case,
    warrant: Warrant = "",
    subject: Annotated[str, typer.Option(help="Whom the photo should show.")] = "",
    template: Annotated[
        list[str] | None, typer.Option(help="Or: a template id to compare with; repeat.")
    ] = None,
    threshold: Threshold = None,
    min_face_pixels: MinFacePixels = None,
    largest_face: LargestFace = False,
    as_json: Json = False,
) -> None:
    """Ask whether a photo shows one subject."""
    quality = bars(min_face_pixels, largest_face)
    if not photo.is_file():
        raise NoSuchPhoto(photo)
    with client_of(context, quality) as client, Status("connecting", console=err) as status:
        findings = client.verify(
            photo,
            gallery=gallery,
            purpose=purpose,
            case=case,
            warrant=warrant,
            subject=subject,
            template_ids=template_ids(template or []),
            threshold=threshold,
            listener=SearchStatus(status),
        )
    show_findings(findings, as_json)
