"""How ``underseal demo --guardians N`` looks while it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from underseal_client.cli.output import out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.status import Status

    from underseal_client.demo.story import Attempt, Step

INDENT: Final = 3
WORDS_PER_LINE: Final = 6
STATISTICS: Final = ("month", "client", "purpose", "intents", "released", "refused", "matches")


def show_beginning(guardians: int, threshold: int) -> None:
    """Print what the demo is about."""
    out.print(
        f"[bold]Underseal with {guardians} guardians, any {threshold} of whom open a score[/]\n",
        highlight=False,
    )


class LiveTeller:
    """Prints every step when it is over; says on the status line what is going on.

    Parameters
    ----------
    silent
        Print nothing: the result is wanted as JSON.
    """

    def __init__(self, status: Status, *, silent: bool) -> None:
        self._status = status
        self._silent = silent
        self._number = 0

    def begins(self, text: str) -> None:
        """See ``Teller``."""
        self._status.update(text)

    def ended(self, step: Step) -> None:
        """See ``Teller``."""
        self._number += 1
        if not self._silent:
            show_step(self._number, step)


def show_step(number: int, step: Step) -> None:
    """Print a step: its title, what is to be said about it, what came of it."""
    out.print(
        f"[bold]{number:>2} {escape(step.title)}[/]  [dim]{step.seconds:.1f} s[/]",
        highlight=False,
    )
    if step.text:
        _indented(escape(step.text))
    if "fingerprint" in step.facts:
        _show_words(str(step.facts["fingerprint"]))
    if step.attempts:
        _show_attempts(step.attempts)
    _show_facts(step)
    out.print()


def _show_words(fingerprint: str) -> None:
    words = fingerprint.split()
    table = Table.grid(padding=(0, 3, 0, 0))
    for start in range(0, len(words), WORDS_PER_LINE):
        said = "" if start else "compared aloud"
        table.add_row(said, f"[cyan]{' '.join(words[start : start + WORDS_PER_LINE])}[/]")
    _indented(table)


def _show_attempts(attempts: Sequence[Attempt]) -> None:
    table = Table.grid(padding=(0, 3, 0, 0))
    for attempt in attempts:
        mark = "" if attempt.ok else "  [bold red]NOT AS EXPECTED[/]"
        table.add_row(escape(attempt.probe), _outcome(attempt) + mark, _signers(attempt))
    _indented(table)
    for attempt in attempts:
        if attempt.refusal is not None:
            _indented(f"[bold red]error:[/] {escape(attempt.refusal.public)}")
            _indented(f"[bold cyan]hint:[/] {escape(attempt.refusal.hint)}")


def _outcome(attempt: Attempt) -> str:
    if attempt.refusal is not None:
        return "nothing is released"
    found = attempt.answer.found if attempt.answer else ()
    names = [f"{entry.label.name} {entry.match.score}".strip() for entry in found]
    return f"[green]{escape(', '.join(names))}[/]" if names else "no match"


def _signers(attempt: Attempt) -> str:
    points = [str(point) for point in attempt.signed_by]
    if not points:
        return ""
    several = "s" if len(points) > 1 else ""
    approved = f"approved by {escape(', '.join(attempt.approvers))}, " if attempt.approvers else ""
    return f"[dim]{approved}signed by guardian{several} {', '.join(points)}[/]"


def _show_facts(step: Step) -> None:
    services, rows = step.facts.get("services"), step.facts.get("statistics")
    caught = step.facts.get("servers_caught")
    if isinstance(services, dict):
        table = Table.grid(padding=(0, 3, 0, 0))
        for name, address in services.items():
            table.add_row(escape(name), escape(str(address)))
        _indented(table)
    if isinstance(rows, list):
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in STATISTICS:
            table.add_column(name)
        for row in rows:
            table.add_row(*(escape(str(row[name])) for name in STATISTICS))
        _indented(table)
    if isinstance(caught, list):
        for alarm in caught:
            said = f"server {alarm['server']!r} was caught by rule {alarm['rule']!r}"
            _indented(f"[bold red]ALARM:[/] {escape(said)}")


def _indented(content: RenderableType) -> None:
    out.print(Padding(content, (0, 0, 0, INDENT)), highlight=False)
