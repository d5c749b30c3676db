"""An explanation for JSON, and as lines."""

from __future__ import annotations

from typing import Any

from echoproto.probe.report.describe import one_line
from echoproto.probe.search.explain.explanation import Explanation, Size, Suspect, Where

__all__ = ["explanation_lines", "to_json"]


def to_json(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation for JSON; what is not known is left out.

    Byte sequences are in hexadecimal, with blanks.
    """
    position: object = explanation.position
    if isinstance(position, Where):
        position = str(position)
    elif position is not None:
        position = {"offset": position}
    values = {
        "text": explanation.text,
        "effect": str(explanation.effect),
        "bytes": [each.hex(" ") for each in explanation.bytes_] or None,
        "becomes": {each.hex(" "): got.hex(" ") for each, got in explanation.becomes} or None,
        "size": None if explanation.size is None else _size(explanation.size),
        "position": position,
        "needs": [str(need) for need in explanation.needs] or None,
        "pause_ms": explanation.pause_ms,
        "hold_ms": explanation.hold_ms,
        "connections": explanation.connections,
        "every": explanation.every,
        "after_connections": explanation.after_connections,
        "rate": None if explanation.rate is None else list(explanation.rate),
        "delay_ms": explanation.delay_ms,
        "suspects": [_suspect(suspect) for suspect in explanation.suspects] or None,
        "conversations": explanation.conversations,
    }
    return {name: value for name, value in values.items() if value is not None}


def explanation_lines(explanation: Explanation) -> list[str]:
    """Return the sentence, then a line for each suspect."""
    lines = [f"the path {explanation.text}"]
    for suspect in explanation.suspects:
        remedy = f"; remedy: {suspect.remedy}" if suspect.remedy else ""
        lines.append(f"  typical of {suspect.what}{remedy}")
    return [one_line(line) for line in lines]


def _size(size: Size) -> dict[str, Any]:
    values = {
        "unit": str(size.unit),
        "least": size.least,
        "most": size.most,
        "multiple_of": size.multiple_of,
    }
    return {name: value for name, value in values.items() if value is not None}


def _suspect(suspect: Suspect) -> dict[str, str]:
    values = {"what": suspect.what, "remedy": suspect.remedy, "source": suspect.source}
    return {name: value for name, value in values.items() if value}
