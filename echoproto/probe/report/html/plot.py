"""The plot of round-trip times."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from echoproto.probe.report.html.elements import seconds_text, size_text, tag
from echoproto.probe.script.words import plural

__all__ = ["plot"]

#: The maximum number of points: a page with more is slow on a phone.
POINTS = 1500

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 340, 70, 14, 36, 48


def plot(round_trips: Sequence[tuple[int, float]]) -> ET.Element:
    """Return time against size, both logarithmic: a dot for each wait, a line of medians.

    Args:
        round_trips: payload size in bytes, and seconds.
    """
    points = [(max(size, 1), max(time, 1e-6)) for size, time in round_trips]
    low_x, high_x = _decades(size for size, _ in points)
    low_y, high_y = _decades(time for _, time in points)

    def x(size: float) -> float:
        span = (WIDTH - LEFT - RIGHT) / (high_x - low_x)
        return LEFT + (math.log10(size) - low_x) * span

    def y(time: float) -> float:
        span = (HEIGHT - TOP - BOTTOM) / (high_y - low_y)
        return HEIGHT - BOTTOM - (math.log10(time) - low_y) * span

    svg = tag("svg", role="img", viewBox=f"0 0 {WIDTH} {HEIGHT}")
    svg.append(tag("title", "Round-trip time against payload size"))
    for decade in range(low_x, high_x + 1):
        at = x(10**decade)
        svg.append(tag("path", cls="grid", d=f"M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"))
        svg.append(_text(size_text(10**decade), at, HEIGHT - BOTTOM + 20, "middle"))
    for decade in range(low_y, high_y + 1):
        at = y(10**decade)
        svg.append(tag("path", cls="grid", d=f"M{LEFT} {at:.1f}H{WIDTH - RIGHT}"))
        svg.append(_text(seconds_text(10.0**decade), LEFT - 8, at + 4, "end"))
    svg.append(_text("payload", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle"))
    shown = points[:: max(1, math.ceil(len(points) / POINTS))]
    dots = "".join(f"M{x(size):.1f} {y(time):.1f}h0" for size, time in shown)
    svg.append(tag("path", cls="dots", d=dots))
    line = " ".join(f"{x(size):.1f},{y(time):.1f}" for size, time in _medians(points))
    svg.append(tag("polyline", cls="median", points=line))
    slowest = max(points, key=lambda point: point[1])
    caption = (
        f"{plural(len(points), 'wait')} that were met; the line joins the medians. "
        f"Slowest: {seconds_text(slowest[1])} for {size_text(slowest[0])}."
    )
    return tag("figure", tag("div", svg, cls="scroll"), tag("figcaption", caption))


def _decades(values: Iterable[float]) -> tuple[int, int]:
    """Return the powers of ten around all values, at least one decade apart."""
    logs = [math.log10(value) for value in values]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    return low, max(high, low + 1)


def _medians(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """Return the median size and time of each third of a decade that has any point."""
    thirds: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
    for size, time in points:
        thirds[math.floor(math.log10(size) * 3)].append((size, time))
    return [
        (median(size for size, _ in third), median(time for _, time in third))
        for _, third in sorted(thirds.items())
    ]


def _text(text: str, x: float, y: float, anchor: str) -> ET.Element:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", **{"text-anchor": anchor})
