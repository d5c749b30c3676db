"""Plots the cost of an echo against the number of connections and the message size, as SVG."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import Peer
from benchmarks.rounds import Run
from benchmarks.spread import Spread
from benchmarks.works import BY_CONNECTIONS, BY_SIZE, KIB, MIB, Work

#: Readable on both white and black: the background is transparent.
INK = "#808080"

#: Of middle lightness, for the same reason.
COLOURS = {
    "ours": "#e6550d",
    "ours-stock-lane": "#f2a36e",
    "twisted": "#3b8fd4",
    "asyncio-protocol": "#2ca25f",
    "asyncio-streams": "#74c69d",
    "uvloop-protocol": "#9467bd",
    "uvloop-streams": "#c29fd8",
    "trio": "#d6478a",
    "c-epoll": "#808080",
    "c-splice": "#b0b0b0",
    "python-epoll": "#8c6d31",
    "go": "#17a2b8",
    "socat": "#b8860b",
    "ncat": "#a0743f",
    "stunnel": "#5a6b2f",
}


@dataclass(frozen=True)
class Plot:
    """One plot: its file, its title, the quantity on the x axis, and the workloads to measure."""

    file: str
    title: str
    axis: str
    position: Callable[[Work], int]
    works: tuple[Work, ...]


PLOTS = (
    Plot(
        "cost-connections.svg",
        "Server CPU time of an echo of 1 KiB",
        "connections",
        lambda work: work.connections,
        BY_CONNECTIONS,
    ),
    Plot(
        "cost-size.svg",
        "Server CPU time of an echo, 50 connections",
        "bytes of a message",
        lambda work: work.size,
        BY_SIZE,
    ),
)


def missing() -> str | None:
    """Return what is missing for plotting; None if nothing is."""
    if importlib.util.find_spec("matplotlib"):
        return None
    return "matplotlib is not installed: pip install 'echoproto[bench]'"


def _short(number: float, _: object = None) -> str:
    for unit, name in ((MIB, "Mi"), (KIB, "Ki")):
        if number >= unit and number % unit == 0:
            return f"{number // unit:g} {name}"
    return f"{number:g}"


def _draw_peer(axes: Any, plot: Plot, run: Run, name: str) -> None:
    points = [
        (plot.position(work), cost)
        for work in plot.works
        if (cost := Spread.of(m.cpu_per_echo * 1e6 for m in run.of(name, work.name)))
    ]
    if not points:
        return
    axes.errorbar(
        [x for x, _ in points],
        [cost.median for _, cost in points],
        yerr=[
            [cost.median - cost.low for _, cost in points],
            [cost.high - cost.median for _, cost in points],
        ],
        label=name,
        color=COLOURS[name],
        marker="o",
        markersize=4,
        capsize=2,
        elinewidth=0.8,
        linewidth=2.5 if name == "ours" else 1.2,
    )


def draw(plot: Plot, run: Run, peers: Sequence[Peer], folder: Path) -> Path:
    """
    Draw a plot from the medians of a run; bars reach from quartile to quartile.

    The same figures give the same file.

    Arguments:
        folder: where the file is written.

    Returns:
        The path of the file.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot, ticker

    style: dict[Any, Any] = {
        "svg.hashsalt": "echoproto",
        "font.size": 10,
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
        ),
    }
    with matplotlib.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
        for peer in peers:
            _draw_peer(axes, plot, run, peer.name)
        axes.set_xscale("log", base=2 if plot.axis.startswith("bytes") else 10)
        axes.set_yscale("log")
        axes.set_xticks([plot.position(work) for work in plot.works])
        axes.xaxis.set_major_formatter(_short)
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(_short)
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
        axes.grid(color=INK, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(plot.title)
        axes.set_xlabel(plot.axis)
        axes.set_ylabel("microseconds")
        axes.legend(frameon=False, ncols=2, fontsize=9)
        path = folder / plot.file
        figure.savefig(path, transparent=True, metadata={"Date": None})
        pyplot.close(figure)
    return path
