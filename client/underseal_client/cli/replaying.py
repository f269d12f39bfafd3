"""``underseal replay``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.status import Status

from underseal_client.cli.folders import stopped_by_sigterm, working_folder
from underseal_client.cli.output import Json, err, note, print_json, print_table, say
from underseal_client.cli.session import settings_of
from underseal_client.replay.plot import draw_plot
from underseal_client.replay.report import GALLERY_2018, NAMED_2018, PEOPLE_2018
from underseal_client.replay.run import Options, run_replay
from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from underseal_client.replay.counting import Count
    from underseal_client.replay.report import ReplayReport

_COUNTED: Final = ("FALSELY MATCHED", "SHARE", "95 % INTERVAL", "MATCHES")
"""Columns of a count; a plus says that releases were full."""
Cosine = Annotated[float | None, typer.Option(min=0.1, max=0.9999, help="Cosine.")]


def replay(
    context: typer.Context,
    probes: Annotated[Path, typer.Option(help="Folder of photos: whom to search for.")],
    gallery: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Synthetic templates to search in.")
    ] = GALLERY_2018,
    people: Annotated[int, typer.Option(min=3, max=1000, help="At most.")] = PEOPLE_2018,
    labels: Annotated[
        Path | None, typer.Option(help="CSV file with the photos' groups; else labels.csv there.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Its column with the group.")] = None,
    default_threshold: Cosine = None,
    policy_threshold: Cosine = None,
    profile: Annotated[str, typer.Option(help="guarded, or compact: yes or no only.")] = "guarded",
    plot: Annotated[Path | None, typer.Option(help="Write a plot to this SVG file.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Repeat a gallery.")] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Keep keys, data and logs in this new folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Repeat the test of 2018, encrypted: search for people in a gallery without them.

    Every match is a false one. All roles run on this machine; every score is opened by the auditor
    under a policy, and logged.
    """
    settings = settings_of(context)
    options = Options(
        probes=probes,
        gallery=gallery,
        people=people,
        profile=profile,
        default_threshold=default_threshold,
        policy_threshold=policy_threshold,
        labels=labels,
        group=group,
        seed=seed,
    )
    status = Status("starting", console=err)
    with stopped_by_sigterm(), working_folder(keep, "replay") as folder, status:
        report = run_replay(folder, options, settings, status.update)
    if as_json:
        print_json(report.as_json())
    else:
        _show(report)
    if plot is not None:
        _write(plot, draw_plot(report))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write {path}", hint="check the folder") from error


def _show(report: ReplayReport) -> None:
    people = len(report.searches)
    say(
        f"{people:,} people searched for in {report.synthetic:,} encrypted templates of nobody "
        f"({people * report.synthetic:,} comparisons), model {report.model}, "
        f"profile {report.profile}"
    )
    say("")
    headers = ("AT", "", *_COUNTED)
    rows = [(f"{value:.3f}", name, *_cells(found)) for name, value, found in report.rows]
    print_table(headers, rows, numbers=_COUNTED, whole=headers)
    _show_groups(report)
    say("")
    _show_population(report)
    say("")
    steps = [(name.replace("_", " "), f"{value:.2f}") for name, value in report.seconds.items()]
    print_table(("STEP", "SECONDS"), steps, numbers=("SECONDS",))
    say("")
    say(
        f"transparency log verified from its {report.log_entries:,} entries; "
        f"{report.values_charged:,} values charged"
    )
    say(f"In 2018: {NAMED_2018} of {PEOPLE_2018} people in {GALLERY_2018:,}, of another model.")
    for photo in report.left_out:
        note(f"left out: {photo.photo} ({photo.reason})")


def _cells(found: Count | None) -> tuple[str, str, str, str]:
    if found is None:
        return "not opened", "", "", ""
    interval = f"{found.interval.low:.1%} - {found.interval.high:.1%}"
    people = f"{found.people:,} of {found.searched:,}"
    return people, f"{found.share:.1%}", interval, f"{found.matches:,}{'+' if found.more else ''}"


def _show_groups(report: ReplayReport) -> None:
    for name, value, _ in report.rows:
        groups = report.groups(value) if name and value >= report.asked else {}
        if groups:
            say("")
            headers = (f"AT {value:.3f}", *_COUNTED)
            rows = [(group, *_cells(found)) for group, found in groups.items()]
            print_table(headers, rows, numbers=_COUNTED, whole=_COUNTED)


def _show_population(report: ReplayReport) -> None:
    compared = report.agreement
    headers = ("SCORES OF DIFFERENT PEOPLE", *(f"{q.level:.2%}" for q in compared.quantiles))
    real = ("real with real", *(f"{q.real:.3f}" for q in compared.quantiles))
    drawn = ("real with synthetic", *(f"{q.synthetic:.3f}" for q in compared.quantiles))
    print_table(headers, [real, drawn], numbers=headers[1:])
