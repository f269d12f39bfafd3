"""``underseal search`` and ``underseal verify``."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.status import Status

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
from underseal_client.cli.session import client_of, template_ids
from underseal_client.subset import names_in
from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_client.asking import Findings, Found
    from underseal_client.logged import InLog
    from underseal_client.records import Progress
    from underseal_core.statements import Release

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
    photo: Annotated[Path | None, typer.Argument(help="A photo that shows one face.")] = None,
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
    """Ask who in a gallery is on a photo. "No match" is an answer, with exit code 0."""
    quality = bars(min_face_pixels, largest_face)
    if (photo is None) != bool(template):
        raise InvalidInput("search with a photo, or with --template ID")
    if photo is not None and not photo.is_file():
        raise NoSuchPhoto(photo)
    with client_of(context, quality) as client, Status("connecting", console=err) as status:
        asked = partial(
            client.search_enrolled if photo is None else client.search,
            gallery=gallery,
            purpose=purpose,
            case=case,
            warrant=warrant,
            subjects=_named(subject, subjects),
            top_k=top_k,
            threshold=threshold,
            listener=SearchStatus(status),
        )
        findings = asked(template_ids([template])[0] if photo is None else photo)
    _print(findings, as_json)


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
    _print(findings, as_json)


def _print(findings: Findings, as_json: bool) -> None:
    if as_json:
        print_json(findings_json(findings))
        return
    show_release(findings.release, findings.found, findings.logged)
    show_log(findings.logged)
    timings = findings.timings
    say(
        f"embedded in {timings.embed:.2f} s, encrypted in {timings.encrypt:.2f} s, "
        f"compared in {timings.compare:.2f} s, opened in {timings.open:.2f} s"
    )


def findings_json(findings: Findings) -> dict[str, object]:
    """Return what ``--json`` prints of a search."""
    return {
        **release_json(findings.release, findings.found),
        "log": log_json(findings.logged),
        "gallery": findings.gallery,
        "gallery_version": findings.gallery_version,
        "model_id": findings.model_id,
        "profile": findings.profile,
        "seconds": asdict(findings.timings),
        "bytes_sent": len(findings.probe),
        "bytes_received": findings.bytes_received,
    }


def release_json(release: Release, found: Sequence[Found]) -> dict[str, object]:
    """Return a release as JSON, with its labels read."""
    matches = [
        {
            **entry.match.model_dump(exclude={"templates"}),
            "name": entry.label.name,
            "templates": [
                {
                    **template.model_dump(exclude={"label"}),
                    "label": asdict(shown.label),
                    "enrolled_by": shown.enrolment.client,
                    "enrolled_at": shown.enrolment.issued_at,
                }
                for template, shown in zip(entry.match.templates, entry.templates, strict=True)
            ],
        }
        for entry in found
    ]
    return {**release.model_dump(exclude={"matches"}), "matches": matches}


def show_release(release: Release, found: Sequence[Found], logged: InLog) -> None:
    """Print a release for people; one that was revoked shows no match any more."""
    if logged.revoked_at:
        say(f"REVOKED {logged.revoked_at}: no warrant was filed by {release.warrant_deadline}")
        say(f"request {release.request_id}, released {release.released_at}")
        return
    if release.warrant_deadline:
        due = f"revoked unless a warrant is filed by {release.warrant_deadline}"
        note(f"provisional: {due}: underseal warrant {release.request_id} REFERENCE")
    if found:
        rows = [row for entry in found for row in _rows(entry)]
        print_table(("RANK", "NAME", "SCORE", "PHOTO", "CASE", "ENROLLED BY"), rows)
    else:
        say("no match")
    compared = counted(release.compared, "template")
    mean = ", mean of each subject's scores" if release.fusion == "mean" else ""
    say(f"compared with {compared}, threshold {float(release.threshold):g}{mean}")
    if release.approvers:
        say(f"approved by {', '.join(release.approvers)}")
    say(f"request {release.request_id}, released {release.released_at}")


def _rows(entry: Found) -> list[tuple[object, ...]]:
    """Return one row for each template; what is said of the subject comes once."""
    said: tuple[object, ...] = (entry.match.rank, entry.label.name, entry.match.score or "yes")
    rows: list[tuple[object, ...]] = []
    for shown in entry.templates:
        by = f"{shown.enrolment.client}, {shown.enrolment.issued_at[:10]}"
        rows.append((*said, shown.label.photo, shown.label.case, by))
        said = ("", "", "")
    return rows


def log_json(logged: InLog) -> dict[str, object]:
    """Return a release's place in the log as JSON."""
    return {
        "origin": logged.origin,
        "intent": logged.intent_index,
        "outcome": logged.outcome_index,
        "size": logged.size,
        "revoked_at": logged.revoked_at,
    }


def show_log(logged: InLog) -> None:
    """Print a release's place in the log."""
    say(
        f"log {logged.origin}: entries {logged.intent_index} and {logged.outcome_index} of "
        f"{logged.size}, verified"
    )
