"""The comparison as a Markdown table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.peers.measuring import Measured

HEAD = (
    "system",
    "µs per comparison, {threads}",
    "fixed per query, ms",
    "bytes per template",
    "query",
    "keys",
    "error",
    "measured with",
)


def markdown(systems: Sequence[Measured]) -> str:
    """Return speed and size, then who sees what, as two tables."""
    threads = " / ".join(str(cost.threads) for cost in systems[0].costs)
    unit = "thread" if threads == "1" else "threads"
    speed = table(
        [title.format(threads=f"{threads} {unit}") for title in HEAD],
        (_speed(one) for one in systems),
    )
    roles = table(
        ("system", "version", "probe", "gallery", "key to enrol", "who opens", "open to"),
        (_roles(one) for one in systems),
    )
    return f"{speed}\n\n{roles}\n"


def _speed(one: Measured) -> list[str]:
    return [
        one.about.name,
        " / ".join(short(cost.us_per_comparison) for cost in one.costs),
        " / ".join(short(cost.fixed_ms) for cost in one.costs),
        f"{one.bytes_per_template:,.0f}",
        size(one.query_bytes),
        size(one.key_bytes),
        f"{one.max_error:.0e}",
        f"{one.templates:,}",
    ]


def _roles(one: Measured) -> list[str]:
    about = one.about
    package = f"{about.package} {one.version}"
    return [
        about.name,
        package,
        about.probe,
        about.gallery,
        about.enrolment,
        about.opens,
        about.open_to,
    ]


def short(value: float) -> str:
    """Return a number with two significant digits or all of its whole ones."""
    if value < 0.005:
        return "0"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def size(count: int) -> str:
    """Return a number of bytes for people."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} B" if count else "-"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
