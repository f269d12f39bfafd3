"""Plots of records. matplotlib is a requirement of the benchmarks only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.peers.table import short

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.peers.measuring import Measured
    from benchmarks.traffic.steps import Step
    from benchmarks.traffic.watch import Sample

OURS: Final = ("#0b5d4e", "#1c8c74", "#5cb8a2")
OTHERS: Final = ("#b8482e", "#d98a3d", "#7d5ba6", "#8c8c8c")
PLAIN: Final = "#8c8c8c"
INK: Final = "#222222"

mpl.rcParams.update(
    {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#888888",
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e4e4e4",
        "legend.frameon": False,
    }
)


def plot_peers(systems: Sequence[Measured], machine: str, path: Path) -> None:
    """Draw what a comparison costs, and what a query costs by the size of the gallery."""
    figure = Figure(figsize=(12, 5.4), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    colours = _colours(systems)
    threads = systems[0].costs[-1].threads
    _bars(left, systems, colours)
    left.set_title(f"One comparison, {_cores(threads)}")
    _lines(right, systems, colours, threads)
    right.set_title("One query, by gallery (dashed: extrapolated)")
    figure.supxlabel(machine, fontsize=8, color="#666666")
    figure.savefig(path)


def _bars(axes: Axes, systems: Sequence[Measured], colours: Sequence[str]) -> None:
    order = sorted(range(len(systems)), key=lambda i: -systems[i].costs[-1].us_per_comparison)
    values = [systems[i].costs[-1].us_per_comparison for i in order]
    axes.barh(range(len(order)), values, color=[colours[i] for i in order], height=0.62)
    axes.set_yticks(range(len(order)), [systems[i].about.name for i in order])
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 3, max(values) * 30)
    axes.set_xlabel("µs per comparison")
    axes.grid(visible=False, axis="y")
    for place, value in enumerate(values):
        axes.annotate(
            f"{short(value)} µs",
            (value, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=INK,
        )


def _lines(axes: Axes, systems: Sequence[Measured], colours: Sequence[str], threads: int) -> None:
    for one, colour in zip(systems, colours, strict=True):
        near = np.geomspace(1, max(2, one.templates), 200)
        far = np.geomspace(max(2, one.templates), 1e6, 200)
        axes.plot(near, [one.seconds(n, threads) for n in near], color=colour, lw=2)
        axes.plot(far, [one.seconds(n, threads) for n in far], color=colour, lw=1.4, ls=(0, (4, 3)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(1, 1e6)
    axes.set_ylim(bottom=1e-6)
    axes.set_xlabel("templates")
    axes.set_ylabel("seconds")
    _label_ends(axes, systems, colours, threads)


def _label_ends(
    axes: Axes, systems: Sequence[Measured], colours: Sequence[str], threads: int
) -> None:
    """Write names at the right ends of the lines, apart from each other."""
    low, high = (np.log10(limit) for limit in axes.get_ylim())
    order = sorted(range(len(systems)), key=lambda i: systems[i].seconds(1e6, threads))
    least, at = (high - low) / 30, -np.inf
    for i in order:
        at = max(float(np.log10(systems[i].seconds(1e6, threads))), at + least)
        axes.annotate(
            systems[i].about.name.partition(" (")[0],
            (1.15e6, 10**at),
            color=colours[i],
            va="center",
            annotation_clip=False,
            fontsize=9,
        )


def _colours(systems: Sequence[Measured]) -> list[str]:
    ours, others = iter(OURS[::-1]), iter(OTHERS)
    return [
        next(ours)
        if one.about.package == "underseal"
        else PLAIN
        if one.about.gallery == "in clear"
        else next(others)
        for one in systems
    ]


def _cores(threads: int) -> str:
    return "one core" if threads == 1 else f"{threads} cores"


def plot_load(
    closed: Step, steps: Sequence[Step], samples: Sequence[Sample], machine: str, path: Path
) -> None:
    """Draw latency and refusals by offered rate, and the server's memory and queue over time.

    ``closed``: without load.
    """
    figure = Figure(figsize=(12, 6.6), dpi=130, layout="constrained")
    (latency, answers), (memory, queue) = figure.subplots(2, 2)
    offered = [step.offered_per_second for step in steps]
    for name, colour in (("p50", OURS[2]), ("p90", OURS[1]), ("p99", OURS[0])):
        values = [getattr(step.latency, name) for step in steps]
        latency.plot(offered, values, "o-", color=colour, label=name)
    three = 3 * closed.latency.p99
    latency.axhline(three, color=OTHERS[0], ls="--", lw=1, label="3 x p99 without load")
    latency.set_ylim(bottom=0)
    latency.set_ylabel("ms")
    latency.set_title("Latency of accepted searches")
    answers.plot(offered, offered, color="#bbbbbb", ls="--", lw=1, label="offered")
    done = [step.completed_per_second for step in steps]
    answers.plot(offered, done, "o-", color=OURS[0], label="answered")
    refused = [step.shed / step.seconds for step in steps]
    answers.plot(offered, refused, "o-", color=OTHERS[1], label="turned away")
    answers.set_ylabel("a second")
    answers.set_title("Answered and turned away")
    for axes in (latency, answers):
        axes.set_xlabel("searches offered a second")
        axes.set_xlim(left=0)
        axes.legend()
    unit, length = ("minutes", 60) if samples[-1].at > 300 else ("seconds", 1)
    times = [sample.at / length for sample in samples]
    memory.plot(times, [sample.resident_mib for sample in samples], color=OURS[0], lw=1.5)
    memory.set_ylim(bottom=0)
    memory.set_ylabel("MiB")
    memory.set_title("Memory of the server")
    queue.plot(times, [sample.waiting for sample in samples], color=OURS[0], lw=1)
    queue.set_ylabel("searches")
    queue.yaxis.set_major_locator(MaxNLocator(integer=True))
    queue.set_title("Waiting in the server's queue")
    for axes in (memory, queue):
        axes.set_xlabel(unit)
    figure.supxlabel(machine, fontsize=8, color="#666666")
    figure.savefig(path)
