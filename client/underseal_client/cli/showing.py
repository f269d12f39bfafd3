"""What came of a search, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from underseal_client.cli.output import counted, note, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_client.asking import Findings, Found
    from underseal_client.logged import InLog
    from underseal_core.statements import Release


def show_findings(findings: Findings, as_json: bool) -> None:
    """Print what came of a search."""
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
        "witnessed_by": logged.witnessed_by,
    }


def show_log(logged: InLog) -> None:
    """Print a release's place in the log."""
    say(
        f"log {logged.origin}: entries {logged.intent_index} and {logged.outcome_index} of "
        f"{logged.size}, verified"
    )
    if logged.witnessed_by:
        say(f"witnessed by {', '.join(logged.witnessed_by)}")
    elif logged.witnessed_by is not None:
        say("no witness has seen it yet: `underseal release show` with the request's id asks again")
