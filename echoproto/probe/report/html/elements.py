"""The elements that the parts of the page are built of.

The page is built as a tree and serialised by :mod:`xml.etree.ElementTree`, so that everything
that a target, a message or a path's bytes contain is escaped, wherever it stands.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from echoproto.probe.report.describe import one_line
from echoproto.probe.wire.verdict import Fault

__all__ = ["badge", "seconds_text", "size_text", "tag"]


def tag(
    name: str, /, *children: ET.Element | str | None, cls: str = "", **attributes: str
) -> ET.Element:
    """Return an element.

    Args:
        name: of the tag.
        children: elements and texts, in order; None is left out.
        cls: the class.
        attributes: the other attributes.
    """
    element = ET.Element(name, {key: one_line(value) for key, value in attributes.items()})
    if cls:
        element.set("class", cls)
    last: ET.Element | None = None
    for child in children:
        if isinstance(child, ET.Element):
            element.append(child)
            last = child
        elif child is not None:
            text = child if name == "style" else one_line(child)
            if last is None:
                element.text = (element.text or "") + text
            else:
                last.tail = (last.tail or "") + text
    return element


def badge(kind: Fault) -> ET.Element:
    """Return a coloured label for a verdict."""
    return tag("span", str(kind), cls=f"badge kind-{kind}")


def size_text(count: float) -> str:
    """Return a number of bytes with its unit."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def seconds_text(seconds: float) -> str:
    """Return a time with its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} \N{MICRO SIGN}s"
