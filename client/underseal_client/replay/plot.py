"""The replay's curve as SVG: how many people are falsely matched at which threshold."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import log10
from typing import TYPE_CHECKING, Final

from underseal_client.replay.counting import by_group, count
from underseal_client.replay.report import NAMED_2018, PEOPLE_2018

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_client.replay.counting import Count, Searched
    from underseal_client.replay.report import ReplayReport

WIDTH: Final = 760
HEIGHT: Final = 470
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 24, 64, 52
_LOWEST: Final = 1e-3
"""Share at the foot of the logarithmic axis; what is below it is drawn there."""
_TICKS: Final = {1.0: "100 %", 0.1: "10 %", 0.01: "1 %", 0.001: "0.1 %"}
_BLACK: Final = "#1a1a1a"
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of groups: those of Okabe and Ito, told apart by most colour-blind people."""
_STYLE: Final = 'font-family="system-ui, sans-serif" font-size="12"'


@dataclass(frozen=True, slots=True)
class _Frame:
    """From thresholds and shares to pixels."""

    low: float
    high: float

    def x(self, threshold: float) -> float:
        share = (threshold - self.low) / (self.high - self.low)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, share: float) -> float:
        depth = log10(max(share, _LOWEST)) / log10(_LOWEST)
        return _TOP + depth * (HEIGHT - _TOP - _BOTTOM)


def draw_plot(report: ReplayReport) -> str:
    """Return the plot as an SVG document."""
    steps = [threshold for threshold, _ in report.curve]
    frame = _Frame(report.asked, max([*steps, report.asked + 0.01]))
    counts = _counts(report.searches, report.asked, steps)
    title = (
        f"{len(report.searches)} people searched for in an encrypted gallery of "
        f"{report.synthetic:,} others"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {_STYLE}>',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(_LEFT, 24, title, size=15, weight="600"),
        _text(_LEFT, 43, f"people falsely matched, {report.model}, profile {report.profile}"),
        *_axes(frame),
        _band(frame, counts),
        *_marks(frame, report),
        *_lines(frame, report, steps, counts),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _counts(searches: Sequence[Searched], asked: float, steps: Sequence[float]) -> list[Count]:
    return [count(searches, threshold) for threshold in dict.fromkeys((asked, *steps))]


def _axes(frame: _Frame) -> list[str]:
    parts = []
    for share, label in _TICKS.items():
        y = frame.y(share)
        parts.append(_line(_LEFT, y, WIDTH - _RIGHT, y, "#dddddd"))
        parts.append(_text(_LEFT - 8, y + 4, label, anchor="end"))
    first, last = round(frame.low * 20 + 0.4999), int(frame.high * 20 + 1e-9)
    for number in range(first, last + 1):
        x = frame.x(number / 20)
        parts.append(_line(x, HEIGHT - _BOTTOM, x, HEIGHT - _BOTTOM + 5, _BLACK))
        parts.append(_text(x, HEIGHT - _BOTTOM + 20, f"{number / 20:.2f}", anchor="middle"))
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(_text(middle, HEIGHT - 12, "threshold (cosine)", anchor="middle"))
    return parts


def _band(frame: _Frame, counts: Sequence[Count]) -> str:
    """Draw the 95 % intervals of all people together."""
    upper = [(frame.x(c.threshold), frame.y(c.interval.high)) for c in counts]
    lower = [(frame.x(c.threshold), frame.y(c.interval.low)) for c in reversed(counts)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *lower])
    return f'<polygon points="{points}" fill="{_BLACK}" fill-opacity="0.12"/>'


def _marks(frame: _Frame, report: ReplayReport) -> list[str]:
    """Draw the thresholds that are spoken of, and what was seen in 2018."""
    parts = []
    for name, threshold in (
        ("model's default", report.thresholds.default),
        ("policy", report.thresholds.policy),
    ):
        if frame.low <= threshold <= frame.high:
            x = frame.x(threshold)
            parts.append(_line(x, _TOP, x, HEIGHT - _BOTTOM, "#777777", dash="5 4"))
            parts.append(_text(x + 5, HEIGHT - _BOTTOM - 8, f"{name} {threshold:g}"))
    y = frame.y(NAMED_2018 / PEOPLE_2018)
    parts.append(_line(_LEFT, y, WIDTH - _RIGHT, y, "#777777", dash="2 3"))
    said = f"2018: {NAMED_2018} of {PEOPLE_2018}"
    parts.append(_text(_LEFT + 5, y - 6, said))
    return parts


def _lines(
    frame: _Frame, report: ReplayReport, steps: Sequence[float], counts: Sequence[Count]
) -> list[str]:
    """Draw a curve for every group and one for all people, with a legend."""
    groups = list(by_group(report.searches).items())[: len(_COLOURS)]
    curves = [
        (f"{name} ({len(members)})", _counts(members, report.asked, steps), colour, 1.5)
        for (name, members), colour in zip(groups, _COLOURS, strict=False)
    ]
    everybody = "all, with 95 % interval" if groups else "95 % interval in grey"
    curves.append((everybody, list(counts), _BLACK, 2.5))
    parts = []
    for number, (name, points, colour, width) in enumerate(curves):
        path = " ".join(
            f"{frame.x(c.threshold):.1f},{frame.y(c.share):.1f}" for c in _until_none(points)
        )
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
        )
        y = HEIGHT - _BOTTOM - 40 - 18 * (len(curves) - 1 - number)
        parts.append(_line(_LEFT + 20, y - 4, _LEFT + 44, y - 4, colour, width=width))
        parts.append(_text(_LEFT + 50, y, name))
    return parts


def _until_none(counts: Sequence[Count]) -> list[Count]:
    """Return the points above the first at which nobody is falsely matched."""
    ends = [number for number, found in enumerate(counts) if found.people == 0]
    return list(counts[: ends[0]] if ends else counts)


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, *, dash: str = "", width: float = 1
) -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"{dashes}/>'
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, weight: str = "400"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="{_BLACK}">{escape(text)}</text>'
    )
