"""``underseal demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.status import Status

from underseal_client.cli.folders import stopped_by_sigterm, working_folder
from underseal_client.cli.output import Json, err, print_json, print_table, say
from underseal_client.cli.telling import LiveTeller, show_beginning
from underseal_client.demo.faces import photo_folder
from underseal_client.demo.oversight import OversightDemo
from underseal_client.demo.run import run_demo
from underseal_core.outcome import ExitCode
from underseal_core.quorum import check_quorum

if TYPE_CHECKING:
    from underseal_client.demo.evidence import Evidence
    from underseal_client.demo.run import DemoReport


def demo(
    keep: Annotated[
        Path | None, typer.Option(help="Keep keys, data and logs in this new folder.")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder with the demo's photos; else the repository's.")
    ] = None,
    guardians: Annotated[
        int, typer.Option(min=1, max=9, help="How many hold a share of the key.")
    ] = 1,
    threshold: Annotated[
        int | None, typer.Option(min=1, help="How many of them open a score; else the majority.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the whole service on this machine, on real faces; takes about a minute.

    With several guardians it shows what happens when one of them is away, when too many are, and
    when the policy refuses.
    """
    source = photo_folder(photos)
    needed = guardians // 2 + 1 if threshold is None else threshold
    if (guardians, needed) == (1, 1):
        _sole(keep, source, as_json)
    else:
        _oversight(keep, source, guardians, needed, as_json)


def _sole(keep: Path | None, photos: Path, as_json: bool) -> None:
    with (
        stopped_by_sigterm(),
        working_folder(keep, "demo") as folder,
        Status("starting", console=err) as status,
    ):
        report = run_demo(folder, photos, status.update)
    if as_json:
        print_json(report.as_json())
    else:
        _show(report)
    if report.correct != len(report.searches):
        raise typer.Exit(int(ExitCode.UNEXPECTED))


def _oversight(
    keep: Path | None, photos: Path, guardians: int, threshold: int, as_json: bool
) -> None:
    check_quorum(threshold, guardians)
    with (
        stopped_by_sigterm(),
        working_folder(keep, "demo") as folder,
        Status("starting", console=err) as status,
    ):
        if not as_json:
            show_beginning(guardians, threshold)
        teller = LiveTeller(status, silent=as_json)
        report = OversightDemo(folder, photos, guardians, threshold, teller).run()
    if as_json:
        print_json(report.as_json())
    else:
        _show_evidence(report.evidence)
        say("")
        correct = sum(attempt.ok for attempt in report.attempts)
        say(f"{correct} of {len(report.attempts)} searches as expected, in {report.seconds:.0f} s")
    if not report.ok:
        raise typer.Exit(int(ExitCode.UNEXPECTED))


def _show(report: DemoReport) -> None:
    if report.gallery is not None:
        pin = report.gallery.pin
        say(
            f"gallery of {report.gallery.templates:,} encrypted templates, "
            f"model {pin.model_id}, profile {pin.profile}"
        )
    say("")
    rows = []
    for search in report.searches:
        scores = [f"{f.label.name} {f.match.score}".strip() for f in search.findings.found]
        expected = ", ".join(search.expected) or "nobody"
        rows.append(
            (search.probe, expected, ", ".join(scores) or "nobody", "yes" if search.ok else "NO")
        )
    print_table(("PROBE", "EXPECTED", "RELEASED BY THE AUDITOR", "OK"), rows)
    say("")
    _show_evidence(report.evidence)
    say("")
    steps = [(n.replace("_", " "), f"{s:.2f}") for n, s in report.seconds.items()]
    print_table(("STEP", "SECONDS"), steps, numbers=("SECONDS",))
    say("")
    say(f"transparency log verified from its {report.log_entries} entries")
    say(f"{report.correct} of {len(report.searches)} searches as expected")


def _show_evidence(evidence: list[Evidence]) -> None:
    seen = [(e.what, f"{e.size:,}", e.excerpt) for e in evidence]
    print_table(("WHAT THE SERVER STORED AND SAW", "BYTES", "EXCERPT"), seen, numbers=("BYTES",))
