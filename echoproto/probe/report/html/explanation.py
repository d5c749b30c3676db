"""What an explanation shows on the page: the sentence, a map of the bytes, a line of sizes."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence

from echoproto.probe.report.html.elements import size_text, tag
from echoproto.probe.script.words import plural
from echoproto.probe.search.explain.explanation import Explanation

__all__ = ["explanation_part"]

# Fewer sizes than this show nothing that the sentence does not.
_FEWEST_SIZES = 3
_WIDTH, _HEIGHT, _SIDE, _LINE = 760, 70, 40, 26


def explanation_part(explanation: Explanation) -> Iterable[ET.Element]:
    """Yield the elements that explain a failure."""
    yield tag("h3", "What the path does")
    yield tag("p", tag("strong", f"The path {explanation.text}."), cls="explanation")
    if any(len(sequence) == 1 for sequence in explanation.bytes_):
        yield _byte_map(explanation)
    if len(explanation.sizes_tried) >= _FEWEST_SIZES:
        yield _sizes(explanation.sizes_tried)
    if explanation.suspects:
        items = tag("ul", cls="suspects")
        for suspect in explanation.suspects:
            remedy = f"; remedy: {suspect.remedy}" if suspect.remedy else ""
            source = f" ({suspect.source})" if suspect.source else ""
            items.append(tag("li", f"typical of {suspect.what}{remedy}{source}"))
        yield items
    count = plural(explanation.conversations, "conversation")
    yield tag("p", f"Found out in {count}.", cls="soft")


def _byte_map(explanation: Explanation) -> ET.Element:
    """Return the 256 bytes as a table of 16 by 16; those that trigger the fault are marked."""
    becomes = dict(explanation.becomes)
    triggers = {sequence for sequence in explanation.bytes_ if len(sequence) == 1}
    table = tag("table", cls="bytemap")
    for high in range(16):
        row = tag("tr", tag("th", f"{high:x}0", scope="row"))
        for low in range(16):
            byte = bytes((16 * high + low,))
            cell = tag("td", byte.hex())
            if byte in triggers:
                got = becomes.get(byte)
                words = "" if got is None else f" becomes {got.hex(' ') or 'nothing'}"
                cell = tag("td", tag("mark", byte.hex()), title=f"{byte.hex()}{words}")
            row.append(cell)
        table.append(row)
    caption = f"{plural(len(triggers), 'byte')} of 256 trigger it."
    return tag("figure", tag("div", table, cls="scroll"), tag("figcaption", caption))


def _sizes(tried: Sequence[tuple[int, bool]]) -> ET.Element:
    """Return the sizes tried, on a logarithmic line, in the colours of their verdicts."""
    logs = [math.log10(max(size, 1)) for size, _ in tried]
    low, high = min(logs), max(max(logs), min(logs) + 0.1)
    svg = tag("svg", role="img", viewBox=f"0 0 {_WIDTH} {_HEIGHT}")
    svg.append(tag("title", "Sizes tried, and whether they failed"))
    svg.append(tag("path", cls="grid", d=f"M{_SIDE} {_LINE}H{_WIDTH - _SIDE}"))
    for (size, failed), log in zip(tried, logs, strict=True):
        x = _SIDE + (log - low) / (high - low) * (_WIDTH - 2 * _SIDE)
        verdict = "fails" if failed else "passes"
        dot = tag("circle", cx=f"{x:.1f}", cy=str(_LINE), r="6", cls=verdict)
        dot.append(tag("title", f"{plural(size, 'byte')}: {verdict}"))
        svg.append(dot)
    for (size, _), x, anchor in (
        (tried[0], _SIDE, "start"),
        (tried[-1], _WIDTH - _SIDE, "end"),
    ):
        svg.append(
            tag("text", size_text(size), x=str(x), y=str(_HEIGHT - 10), **{"text-anchor": anchor})
        )
    failing = sum(failed for _, failed in tried)
    caption = f"{plural(len(tried), 'size')} tried: {failing} failed (filled), the others passed."
    return tag("figure", tag("div", svg, cls="scroll"), tag("figcaption", caption))
